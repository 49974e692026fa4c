"""The sides of a comparison: where each answers, what it is made of, and a load on one of them."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from record import gap_ms, percentile

HERE: Final = Path(__file__).parent
STOP_SECONDS_MAX: Final = 10


@dataclass(frozen=True)
class Side:
    """One of the servers under comparison. ``watch`` names the processes whose CPU is counted, by pid."""

    name: str
    url: str = ""
    key: str = "none"
    model: str = "fake"
    triton: str = ""
    watch: Mapping[str, int] = field(default_factory=dict)
    same: bool = False


@dataclass(frozen=True)
class Load:
    """So many closed loops, and the pace of the answers that they ask for."""

    streams: int
    tokens: int = 60
    first_ms: int = 50
    gap_ms: int = 20
    seconds: float = 6.0
    warm_up: float = 2.5

    @property
    def offered_per_s(self) -> float:
        """Tokens a second if nothing but the model took time; infinite flat out."""
        seconds = (self.first_ms + (self.tokens - 1) * self.gap_ms) / 1000
        return self.streams * self.tokens / seconds if seconds else float("inf")


def run_load(side: Side, load: Load) -> dict[str, Any]:
    """What ``load_client.py`` says, run to its end in a process of its own. Raises CalledProcessError."""
    arguments: list[str] = []
    for name in ("streams", "tokens", "first_ms", "gap_ms", "seconds", "warm_up"):
        arguments += [f"--{name.replace('_', '-')}", str(getattr(load, name))]
    for name, pid in side.watch.items():
        arguments += ["--watch", f"{name}={pid}"]
    target = ["--triton", side.triton] if side.triton else ["--url", side.url]
    same = ["--same"] if side.same else []
    command = [sys.executable, str(HERE / "load_client.py"), *target, *same, *arguments]
    ran = subprocess.run(  # noqa: S603 - our own program
        [*command, "--key", side.key, "--model", side.model], capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        raise SystemExit(f"the load on {side.name} failed:\n{ran.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@dataclass
class Pooled:
    """The loads of one side, taken together."""

    seconds: float = 0.0
    tokens: int = 0
    answers: int = 0
    first_ms: list[float] = field(default_factory=list)
    gaps: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    cpu_s: Counter[str] = field(default_factory=Counter)
    rss_bytes: dict[str, int] = field(default_factory=dict)
    other_cores: float = 0.0

    def add(self, found: dict[str, Any]) -> None:
        """One more load."""
        self.seconds += found["seconds"]
        self.tokens += found["tokens"]
        self.answers += found["answers"]
        self.first_ms += found["first_ms"]
        self.gaps.update({int(steps): count for steps, count in found["gaps"].items()})
        self.faults.update(found["faults"])
        self.failed.update(found["failed"])
        for name, seconds in found["cpu_s"].items():
            self.cpu_s[name] += seconds
        self.rss_bytes |= found["rss_bytes"]
        self.other_cores = max(self.other_cores, found["other_cores"])

    def figures(self) -> dict[str, Any]:
        """Milliseconds, tokens a second, and CPU a token by process."""
        tokens = max(1, self.tokens)
        return {
            "answers": self.answers,
            "failed": sum(self.failed.values()),
            "failures": dict(self.failed),
            "token_faults": sum(self.faults.values()),
            "token_fault_kinds": dict(self.faults),
            "ttft_p50_ms": round(percentile(self.first_ms, 0.5), 1),
            "ttft_p99_ms": round(percentile(self.first_ms, 0.99), 1),
            "gap_p99_ms": gap_ms(self.gaps, 0.99),
            "tokens_per_s": round(self.tokens / self.seconds) if self.seconds else 0,
            "cpu_us_per_token": {name: round(1e6 * spent / tokens, 2) for name, spent in self.cpu_s.items()},
            "rss_mb": {name: round(size / 1e6) for name, size in self.rss_bytes.items()},
            "other_cores": self.other_cores,
        }


@contextmanager
def fake_upstream() -> Iterator[tuple[str, int]]:
    """The base URL (up to and including ``/v1``) and the pid of a fake upstream, while the block runs."""
    command = [sys.executable, str(HERE / "fake_upstream.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        try:
            port = int((process.stdout.readline() if process.stdout else "") or 0)
            if not port:
                raise SystemExit("the fake upstream did not start")
            yield f"http://127.0.0.1:{port}/v1", process.pid
        finally:
            process.terminate()
            process.wait(STOP_SECONDS_MAX)
