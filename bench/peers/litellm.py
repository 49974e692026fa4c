"""LiteLLM's proxy from PyPI, in an environment of its own, two workers, as its documentation advises for production."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sides import STOP_SECONDS_MAX, Side

from turnstream.local_stack.layout import checkout_root
from turnstream.local_stack.ports import LOOPBACK

NAME: Final = "litellm"
REQUIREMENTS: Final = Path(__file__).with_name("litellm.txt")
WORKERS: Final = 2
READY_SECONDS_MAX: Final = 120
SETTINGS: Final = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def environment() -> Path:
    """The folder of its programs; installed first if it is not there, or if other versions are wanted now."""
    folder = Path(os.environ.get("TURNSTREAM_BENCH_PEERS", checkout_root() / ".turnstream" / "bench-peers")) / NAME
    installed = folder / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if not installed.exists() or installed.read_text() != wanted:
        print(f"Setting up {NAME} (minutes, once) ...", file=sys.stderr, flush=True)
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(REQUIREMENTS))
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)  # noqa: S603 - the standard library
        subprocess.run([str(folder / "bin" / "python"), *pip], check=True)  # noqa: S603 - ordinary pip
        installed.write_text(wanted)
    return folder / "bin"


@contextmanager
def started(upstream: str) -> Iterator[Side]:
    """The proxy before ``upstream``, while the block runs. Raises SystemExit when it does not answer in time."""
    programs = environment()
    with TemporaryDirectory(prefix="turnstream-bench-") as folder:
        port = free_port()
        key = f"sk-{secrets.token_hex(16)}"
        config, log = Path(folder) / "config.yaml", Path(folder) / "log"
        # JSON is YAML too.
        config.write_text(json.dumps(configuration(upstream, key)))
        command = [str(programs / NAME), "--config", str(config), "--host", LOOPBACK, "--port", str(port)]
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - what we have installed
                [*command, "--num_workers", str(WORKERS)],
                env={**os.environ, **SETTINGS},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        side = Side(NAME, f"http://{LOOPBACK}:{port}/v1", key, "fake", watch={NAME: process.pid})
        try:
            await_ready(side, process, log)
            yield side
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def configuration(upstream: str, key: str) -> dict[str, object]:
    """One model, one upstream, a master key, no database."""
    model = {"model": "openai/fake", "api_base": upstream, "api_key": "none"}
    return {
        "model_list": [{"model_name": "fake", "litellm_params": model}],
        "general_settings": {"master_key": key},
        "litellm_settings": {"request_timeout": 600, "set_verbose": False, "json_logs": True},
    }


def await_ready(side: Side, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when it says that it lives."""
    url = side.url.removesuffix("/v1") + "/health/liveliness"
    until_s = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < until_s and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own loopback address
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit(f"{side.name} did not start:\n{log.read_text(errors='replace')[-2000:]}")
