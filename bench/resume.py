"""How long a client that lost its stream waits for the next token, while the partition is busy with others' answers.

    python bench/resume.py [--busy 0,50,300] [--resumes 40]

One client after the other reads a few tokens, loses its connection, stays away for a moment and asks for the rest
behind its last cursor. Measured is from that request to the first token that it did not have; it has come meanwhile.
All answers lie in one partition. Beside it stands what the upstream takes to come back to the same place when it is
asked again, which is all that a gateway without a log can offer.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from kept import keep_if_quiet, wait_for_quiet
from record import percentile
from rich.console import Console
from rich.table import Table
from sides import HERE, Side, fake_upstream
from stacks import MODEL, bench_stack
from words import answer, new_tag, question

TOKENS: Final = 100
PACE: Final = {"tokens": TOKENS, "first_ms": 50, "gap_ms": 20}
READ_TOKENS: Final = 10
AWAY_S: Final = 0.3
RAMP_S: Final = 3.0
WARM_RESUMES: Final = 3
SECONDS_PER_RESUME_MAX: Final = 30.0
# All that this edge begins lies here.
ONE_PARTITION: Final = {"TURNSTREAM_EDGE__HOME_PARTITIONS": "[0]"}


async def chunks(side: Side, method: str, target: str, body: bytes = b"") -> AsyncIterator[dict[str, Any]]:
    """The chunks with text of one streamed response. Raises OSError for another status than 200."""
    host, _, port = side.url.removeprefix("http://").removesuffix("/v1").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = (
            f"{method} /v1/chat/completions{target} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {side.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        status = await reader.readline()
        if b" 200 " not in status:
            raise OSError(status.decode().strip())
        while (line := await reader.readline()) and line != b"data: [DONE]\n":
            # Each frame is one line; the sizes of HTTP's chunks stand on lines of their own.
            if line.startswith(b"data: {"):
                chunk: dict[str, Any] = json.loads(line[6:])
                if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                    yield chunk
    finally:
        writer.close()


async def read_to(side: Side, tag: str, chars: int) -> tuple[dict[str, Any], str, float]:
    """Ask, and read until so many characters have come: the last chunk, the text, and the seconds that it took."""
    body = {"model": side.model, "stream": True, "messages": [{"role": "user", "content": question(tag, **PACE)}]}
    text, began_s = "", time.perf_counter()
    async with aclosing(chunks(side, "POST", "", json.dumps(body).encode())) as stream:
        async for chunk in stream:
            text += chunk["choices"][0]["delta"]["content"]
            if len(text) >= chars:
                return chunk, text, time.perf_counter() - began_s
    raise OSError("the answer ended early")


async def resume_once(side: Side, dice: random.Random) -> tuple[float, float]:
    """Seconds to the first token behind the cursor, and the share (0 or 1) of answers that did not go on rightly."""
    tag = new_tag(dice)
    whole = answer(tag, TOKENS)
    last, text, _ = await read_to(side, tag, READ_TOKENS * len(whole) // TOKENS)
    await asyncio.sleep(AWAY_S)
    began_s = time.perf_counter()
    target = f"/{last['id']}/stream?starting_after={last['cursor']}"
    async with aclosing(chunks(side, "GET", target)) as stream:
        async for chunk in stream:
            seconds = time.perf_counter() - began_s
            return seconds, float(not whole.startswith(text + chunk["choices"][0]["delta"]["content"]))
    raise OSError("nothing came behind the cursor")


async def ask_again(side: Side, dice: random.Random) -> float:
    """Seconds until the upstream, asked from the start, is one token further than the client was."""
    chars = len(answer(new_tag(dice), READ_TOKENS + 1))
    _, _, seconds = await read_to(side, new_tag(dice), chars)
    return seconds


@asynccontextmanager
async def busy(side: Side, streams: int, seconds: float) -> AsyncIterator[None]:
    """So many paced streams beside the block, all of them begun."""
    if streams == 0:
        yield
        return
    command = [sys.executable, str(HERE / "load_client.py"), "--url", side.url, "--key", side.key]
    command += ["--model", side.model, "--streams", str(streams), "--seconds", str(seconds), "--warm-up", str(RAMP_S)]
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL)
    try:
        await asyncio.sleep(RAMP_S)
        yield
    finally:
        process.kill()
        await process.wait()


async def measure(side: Side, upstream: Side, loads: list[int], resumes: int) -> dict[str, Any]:
    """Every load in turn; the upstream is asked again under the same."""
    dice = random.Random()
    results: dict[str, Any] = {}
    for _ in range(WARM_RESUMES):
        await resume_once(side, dice)
    for streams in loads:
        async with busy(side, streams, resumes * SECONDS_PER_RESUME_MAX):
            found = [await resume_once(side, dice) for _ in range(resumes)]
            again = [await ask_again(upstream, dice) for _ in range(max(1, resumes // 4))]
        first_ms = [1000 * seconds for seconds, _ in found]
        results[str(streams)] = {
            "resumes": resumes,
            "p50_ms": round(percentile(first_ms, 0.5), 1),
            "p99_ms": round(percentile(first_ms, 0.99), 1),
            "wrong": round(sum(wrong for _, wrong in found)),
            "asked_again_p50_ms": round(1000 * percentile(again, 0.5), 1),
        }
    return results


def main() -> None:
    """Start, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", default="0,50,300", help="paced streams beside the one that resumes")
    parser.add_argument("--resumes", type=int, default=40)
    options = parser.parse_args()
    busy = wait_for_quiet()
    loads = [int(text) for text in options.busy.split(",")]
    with fake_upstream() as (url, _), bench_stack(url, changed=ONE_PARTITION) as stack:
        side = Side("turnstream", stack.endpoints.base_url or "", stack.endpoints.key or "", MODEL)
        results = asyncio.run(measure(side, Side("direct", url), loads, options.resumes))
    columns = ("busy streams", "first token p50", "p99", "wrong", "upstream asked again, p50")
    table = Table(*columns, title=f"Resumed after {READ_TOKENS} tokens and {AWAY_S} s")
    for streams, row in results.items():
        again = f"{row['asked_again_p50_ms']} ms"
        table.add_row(streams, f"{row['p50_ms']} ms", f"{row['p99_ms']} ms", str(row["wrong"]), again)
    Console(width=120).print(table)
    keep_if_quiet("resume", results, busy)


if __name__ == "__main__":
    main()
