"""Closed loops of streamed chats in a process of their own, cheap enough to share the machine with what they measure.

    python bench/load_client.py --url http://127.0.0.1:8080/v1 --key KEY --streams 50 [--watch edge=PID ...]

Each loop has one connection: it asks, reads the answer to its end and asks again. Loops begin spread over one answer.
After the warm-up everything is counted for the measured seconds; answers under way then are read to their end and
checked. One line of JSON on standard output. With ``--triton HOST:PORT`` the same loops call Triton by gRPC instead.
"""

import argparse
import asyncio
import json
import os
import random
import re
import time
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httptools
import uvloop
from machine import busy_seconds, tree_cpu_seconds, tree_rss_bytes
from record import Recorder, Stream
from words import new_tag, question

END_SECONDS_MAX: Final = 120.0
_TEXT: Final = re.compile(rb'"content": ?"((?:[^"\\]|\\.)+)"')
_DONE: Final = b"data: [DONE]"


class Loop(Protocol):
    """One client: ``run`` asks again and again until ``stop`` was called and the last answer is read."""

    async def run(self) -> None:
        """Ask until stopped."""
        ...


class Asker:
    """What all loops of a process share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.recorder = Recorder(options.tokens)
        self.dice = random.Random(options.seed)
        self.stopping = False
        self._options = options

    def ask(self) -> tuple[Stream, str]:
        """The next question, asked now."""
        options = self._options
        tag = new_tag(self.dice)
        text = question(tag, tokens=options.tokens, first_ms=options.first_ms, gap_ms=options.gap_ms)
        # The demonstration model repeats the question in its answer: then all have to be the same.
        if options.same:
            text = text.replace(f"[[tag {tag}]] ", "")
        return Stream(time.perf_counter(), "" if options.same else tag), text


class HttpLoop(asyncio.Protocol):
    """Over one connection to an OpenAI-compatible server. The methods ``on_*`` are httptools' callbacks."""

    def __init__(self, asker: Asker, target: str, key: str, model: str) -> None:
        self._asker = asker
        self._url = urlsplit(target)
        self._key = key
        self._model = model
        self._transport: asyncio.Transport | None = None
        self._over = asyncio.get_running_loop().create_future()
        self._stream: Stream | None = None
        self._done = False
        self._rest = b""
        self._parser: Any = None

    async def run(self) -> None:
        """See ``Loop``."""
        while not self._asker.stopping:
            self._over = asyncio.get_running_loop().create_future()
            try:
                await asyncio.get_running_loop().create_connection(
                    lambda: self, self._url.hostname or "", self._url.port or 80
                )
            except OSError as error:
                self._asker.recorder.fail(type(error).__name__)
                await asyncio.sleep(0.1)
                continue
            await self._over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask the first question."""
        self._transport = transport  # type: ignore[assignment]
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """An answer under way is broken."""
        if self._stream is not None:
            self._asker.recorder.fail("connection lost")
            self._stream = None
        if not self._over.done():
            self._over.set_result(None)

    def data_received(self, data: bytes) -> None:
        """More of the response."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Complete frames are searched for text; what is incomplete waits."""
        stream = self._stream
        if stream is None or self._parser.get_status_code() != 200:
            return
        data = self._rest + body
        cut = data.rfind(b"\n\n") + 1
        self._rest = data[cut:]
        if texts := _TEXT.findall(data, 0, cut):
            self._asker.recorder.text(stream, b"".join(texts), time.perf_counter())
        if _DONE in data:
            self._done = True

    def on_message_complete(self) -> None:
        """Count the answer, ask the next."""
        stream, self._stream = self._stream, None
        recorder = self._asker.recorder
        status = self._parser.get_status_code()
        if stream is not None and self._done:
            recorder.ended(stream)
        else:
            recorder.fail(f"status {status}" if status != 200 else "broken off")
        if self._transport is None:
            return
        if self._asker.stopping or not self._parser.should_keep_alive():
            self._transport.close()
        elif self._done:
            self._ask()
        else:
            # A server that refuses must not be asked as fast as it can refuse.
            asyncio.get_running_loop().call_later(0.1, self._ask)

    def _ask(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._stream, content = self._asker.ask()
        self._done, self._rest = False, b""
        self._parser = httptools.HttpResponseParser(self)
        body = json.dumps(
            {"model": self._model, "messages": [{"role": "user", "content": content}], "stream": True}
        ).encode()
        head = (
            f"POST {self._url.path}/chat/completions HTTP/1.1\r\nhost: {self._url.netloc}\r\n"
            f"authorization: Bearer {self._key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)


class TritonLoop:
    """By gRPC, with the client that the inference process has."""

    def __init__(self, asker: Asker, backend: Any) -> None:
        self._asker = asker
        self._backend = backend

    async def run(self) -> None:
        """See ``Loop``."""
        # Only here: the client takes long to import, and HTTP loads do without.
        from requests_for import inference_request  # noqa: PLC0415

        recorder = self._asker.recorder
        while not self._asker.stopping:
            stream, content = self._asker.ask()
            async with aclosing(self._backend.generate(inference_request(content), "")) as pieces:
                async for piece in pieces:
                    if piece.text:
                        recorder.text(stream, piece.text.encode(), time.perf_counter())
            recorder.ended(stream)


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """The load, and its figures."""
    asker, backend = Asker(options), None
    if options.triton:
        from consumers.inference.pool import PoolSettings  # noqa: PLC0415
        from consumers.inference.triton_backend import TritonBackend  # noqa: PLC0415

        backend = TritonBackend(PoolSettings(url=options.triton))
    watched = dict(watch.split("=") for watch in options.watch) | {"client": str(os.getpid())}
    spread_s = min(options.warm_up / 2, (options.first_ms + options.tokens * options.gap_ms) / 1000)

    async def begin(number: int) -> None:
        await asyncio.sleep(spread_s * number / options.streams)
        loop: Loop = TritonLoop(asker, backend) if backend else HttpLoop(asker, options.url, options.key, options.model)
        await loop.run()

    async with asyncio.timeout(options.warm_up + options.seconds + END_SECONDS_MAX), asyncio.TaskGroup() as tasks:
        for number in range(options.streams):
            tasks.create_task(begin(number))
        await asyncio.sleep(options.warm_up)
        before = read_cpu(watched.items())
        started_s = asker.recorder.from_s = time.perf_counter()
        busy_s = busy_seconds()
        await asyncio.sleep(options.seconds)
        asker.recorder.until_s = time.perf_counter()
        seconds = asker.recorder.until_s - started_s
        busy_s, after = busy_seconds() - busy_s, read_cpu(watched.items())
        asker.stopping = True
    if backend is not None:
        await backend.close()
    cpu_s = {name: after[name] - before[name] for name in after}
    rss = {name: tree_rss_bytes(int(pid)) for name, pid in watched.items()}
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "rss_bytes": rss,
        "other_cores": round((busy_s - sum(cpu_s.values())) / seconds, 2),
        **asker.recorder.figures(),
    }


def read_cpu(watched: Iterable[tuple[str, str]]) -> dict[str, float]:
    """CPU seconds so far by name."""
    return {name: tree_cpu_seconds(int(pid)) for name, pid in watched}


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="")
    parser.add_argument("--triton", default="")
    parser.add_argument("--key", default="none")
    parser.add_argument("--model", default="fake")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--first-ms", type=int, default=50)
    parser.add_argument("--gap-ms", type=int, default=20)
    parser.add_argument("--warm-up", type=float, default=2.5, help="seconds")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--same", action="store_true", help="no tag: all answers must be equal")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--watch", action="append", default=[], metavar="NAME=PID")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(options))))


if __name__ == "__main__":
    main()
