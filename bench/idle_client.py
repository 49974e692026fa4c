"""Opens streams and holds them: what each costs the server in memory and CPU while nothing comes.

    python bench/idle_client.py --url http://127.0.0.1:8080/v1 --streams 2000 --watch edge=PID

Every stream gets its first token at once and the next in half an hour. One line of JSON on standard output.
"""

import argparse
import asyncio
import json
import random
import time
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import uvloop
from machine import tree_cpu_seconds, tree_rss_bytes
from words import new_tag, question

PER_SECOND: Final = 400
OPEN_SECONDS_MAX: Final = 120
SETTLE_SECONDS: Final = 3.0
IDLE_MS: Final = 1_800_000


class Held(asyncio.Protocol):
    """One stream; ``opened`` when it has text."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._begun = b""
        self.transport: asyncio.Transport | None = None
        self.opened = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = transport  # type: ignore[assignment]
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Wait for the first text; afterwards there are heartbeats alone."""
        if self.opened.done():
            return
        self._begun += data
        if not self._begun.startswith(b"HTTP/1.1 200"):
            self.opened.set_exception(OSError(self._begun[:60].decode(errors="replace")))
        elif b'"content":"' in self._begun.replace(b'"content":""', b""):
            self.opened.set_result(None)
            self._begun = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """A stream that ends before its first text was refused."""
        if not self.opened.done():
            self.opened.set_exception(exc or OSError("closed"))


def request(url: SplitResult, key: str, model: str, dice: random.Random) -> bytes:
    """The bytes of one question."""
    content = question(new_tag(dice), tokens=2, first_ms=0, gap_ms=IDLE_MS)
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": content}]}).encode()
    head = (
        f"POST {url.path}/chat/completions HTTP/1.1\r\nhost: {url.netloc}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Open, settle, watch."""
    loop, url, dice = asyncio.get_running_loop(), urlsplit(options.url), random.Random()
    name, _, pid = options.watch.partition("=")
    before = tree_rss_bytes(int(pid))
    held: list[Held] = []
    started_s = time.perf_counter()
    async with asyncio.timeout(OPEN_SECONDS_MAX):
        for number in range(options.streams):
            asked = request(url, options.key, options.model, dice)
            _, one = await loop.create_connection(lambda asked=asked: Held(asked), url.hostname, url.port)
            held.append(one)
            ahead_s = number / PER_SECOND - (time.perf_counter() - started_s)
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
        opened = await asyncio.gather(*(one.opened for one in held), return_exceptions=True)
    open_seconds = time.perf_counter() - started_s
    await asyncio.sleep(SETTLE_SECONDS)
    cpu_s = tree_cpu_seconds(int(pid))
    await asyncio.sleep(options.seconds)
    cpu_s = tree_cpu_seconds(int(pid)) - cpu_s
    after = tree_rss_bytes(int(pid))
    for one in held:
        if one.transport is not None:
            one.transport.abort()
    count = sum(error is None for error in opened)
    return {
        "server": name,
        "streams": count,
        "refused": len(opened) - count,
        "opened_per_s": round(count / open_seconds),
        "rss_mb_before": round(before / 1e6, 1),
        "rss_mb_after": round(after / 1e6, 1),
        "bytes_per_stream": round((after - before) / max(1, count)),
        "cores_while_idle": round(cpu_s / options.seconds, 3),
    }


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", default="none")
    parser.add_argument("--model", default="fake")
    parser.add_argument("--streams", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=15.0, help="that idle CPU is watched for")
    parser.add_argument("--watch", required=True, metavar="NAME=PID")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(options))))


if __name__ == "__main__":
    main()
