"""An OpenAI-compatible server that costs next to nothing, to measure what stands before it.

    python bench/fake_upstream.py [--port 0]        prints its port

``POST /v1/chat/completions`` (streamed) answers the text of ``words.py`` at the pace that the question names: 50 ms to
the first token and one every 20 ms if it names none. All frames of a stream have one length and are laid out
beforehand; one wheel of 1 ms serves all streams. 300 streams of 50 tokens/s take about a fifth of a core.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import httptools
import uvloop
from words import TOKENS_MAX, find_question, place

TICK_S: Final = 0.001
TOKENS_DEFAULT: Final = 60
FIRST_MS_DEFAULT: Final = 50
GAP_MS_DEFAULT: Final = 20
PROMPT_TOKENS: Final = 20
HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MODELS: Final = b'{"object":"list","data":[{"id":"fake","object":"model","created":0,"owned_by":"bench"}]}'


def frame(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
    """One chunk of OpenAI's stream as one server-sent event."""
    body = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 0, "model": "fake", "choices": choices}
    return b"data: " + json.dumps(body | ({"usage": usage} if usage else {}), separators=(",", ":")).encode() + b"\n\n"


def chunked(data: bytes) -> bytes:
    """One chunk of HTTP."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def choice(delta: dict[str, str], reason: str | None = None) -> list[dict[str, Any]]:
    """The one choice of a chunk."""
    return [{"index": 0, "delta": delta, "finish_reason": reason}]


ROLE: Final = chunked(frame(choice({"role": "assistant", "content": ""})))
END: Final = chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
# A token's chunk is this head, the tag, and the tail of its position.
_TOKEN_TAIL: Final = chunked(frame(choice({"content": "TEXT"}))).partition(b"TEXT")[2]


@cache
def token_head(tag_chars: int, place_chars: int) -> bytes:
    """What stands before the tag; the length of the chunk is in it."""
    example = chunked(frame(choice({"content": "t" * tag_chars + "p" * place_chars + " "})))
    return example[: example.index(b"t" * tag_chars)]


@cache
def token_tail(index: int) -> bytes:
    """What stands after the tag in the token at ``index``."""
    return place(index).encode() + b" " + _TOKEN_TAIL


class Stream:
    """One answer under way."""

    __slots__ = ("gap_ticks", "index", "prefix", "protocol", "tokens", "with_usage")

    def __init__(self, protocol: "Upstream", tag: str, pace: dict[str, int], *, with_usage: bool) -> None:
        self.protocol = protocol
        self.prefix = token_head(len(tag), len(place(0))) + tag.encode()
        self.tokens = min(pace.get("tokens", TOKENS_DEFAULT), TOKENS_MAX)
        self.gap_ticks = round(pace.get("gap_ms", GAP_MS_DEFAULT) / 1000 / TICK_S)
        self.with_usage = with_usage
        self.index = 0

    def step(self) -> bytes:
        """The bytes of the next token, and of the end with the last."""
        data = self.prefix + token_tail(self.index)
        self.index += 1
        return data if self.index < self.tokens else data + self.ending()

    def rest(self) -> Iterator[bytes]:
        """All that is left."""
        while self.index < self.tokens:
            yield self.step()

    def ending(self) -> bytes:
        """After the last token."""
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": self.tokens}
        usage["total_tokens"] = PROMPT_TOKENS + self.tokens
        last = chunked(frame(choice({}, "stop")))
        return last + (chunked(frame([], usage)) if self.with_usage else b"") + END


class Wheel:
    """Streams by the tick of their next token."""

    def __init__(self) -> None:
        self._due: dict[int, list[Stream]] = {}
        self._tick = 0
        self._loop = asyncio.get_running_loop()
        self._started_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, stream: Stream, ticks: int) -> None:
        """Serve ``stream`` after so many ticks."""
        now = int((self._loop.time() - self._started_s) / TICK_S)
        due = max(now, self._tick) + max(1, ticks)
        self._due.setdefault(due, []).append(stream)
        if self._timer is None:
            self._tick = now
        elif self._timer.when() <= self._started_s + due * TICK_S:
            return
        else:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(1, due - now) * TICK_S, self._turn)

    def _turn(self) -> None:
        now = int((self._loop.time() - self._started_s) / TICK_S)
        while self._tick < now:
            self._tick += 1
            for stream in self._due.pop(self._tick, ()):
                self._serve(stream)
        # Aimed at the clock, not at the last call: late ticks do not add up. Whole ticks: a shorter wait would spin.
        ahead = min(self._due, default=0) - now
        self._timer = self._loop.call_later(max(1, ahead) * TICK_S, self._turn) if self._due else None

    def _serve(self, stream: Stream) -> None:
        transport = stream.protocol.transport
        if transport is None or transport.is_closing():
            return
        if stream.gap_ticks == 0:
            transport.write(b"".join(stream.rest()))
            return
        transport.write(stream.step())
        if stream.index < stream.tokens:
            self._due.setdefault(self._tick + stream.gap_ticks, []).append(stream)


class Upstream(asyncio.Protocol):
    """One connection, kept open from answer to answer. The methods ``on_*`` are httptools' callbacks."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._url = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget it; its streams end at their next token."""
        self.transport = None

    def data_received(self, data: bytes) -> None:
        """Read requests."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self.transport is not None:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Begin with nothing."""
        self._body = self._url = b""

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer."""
        transport, found = self.transport, find_question(self._body)
        if transport is None:
            return
        if self._parser.get_method() != b"POST":
            transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ")
            transport.write(b"%d\r\n\r\n%s" % (len(MODELS), MODELS))
            return
        tag, pace = found or ("bbbb", {})
        stream = Stream(self, tag, pace, with_usage=b"include_usage" in self._body)
        transport.write(HEAD + ROLE)
        self._wheel.add(stream, round(pace.get("first_ms", FIRST_MS_DEFAULT) / 1000 / TICK_S))


async def serve(port: int) -> None:
    """Serve on the loopback address until the process ends."""
    wheel = Wheel()
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(wheel), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
