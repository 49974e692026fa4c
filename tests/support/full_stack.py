"""All of Turnstream for end-to-end tests: the four servers and every process of ours, and what a test asks of them."""

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from unittest.mock import patch

import httpx2
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk

from producers.accounts.ports import ApiKeyRow
from producers.http.api_keys import KEY_ENTROPY_BYTES, key_hash, make_api_key
from tests.support.topic_scan import LogRecord, read_topics
from turnstream.local_stack.parts import PartState
from turnstream.local_stack.plan import StackOptions
from turnstream.local_stack.ports import LOOPBACK
from turnstream.local_stack.processes import PROCESSES, OurProcess, replicated
from turnstream.local_stack.restart import RestartPolicy
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.stack import Stack
from turnstream.stores.api_keys import create_key_row
from turnstream.stores.cassandra import CassandraSettings, open_session

MODEL: Final = "turnstream-fast"
COMMAND_SECONDS_MAX: Final = 60.0
TURN_SECONDS_MAX: Final = 40.0
SETTLE_SECONDS_MAX: Final = 10.0
RECOVERY_SECONDS_MAX: Final = 30.0
POLL_SECONDS: Final = 0.05

REQUESTS_OF_TINY: Final = 3
REQUESTS_OF_DAILY: Final = 10
HEARTBEAT_SECONDS: Final = 0.05
KEY_CACHE_SECONDS: Final = 1.0
# Time as a deployment knows it, made short: heartbeats of 10 s, a grace of 10 s, sessions of 10 s.
SETTINGS: Final[Mapping[str, str]] = {
    "TURNSTREAM_SSE__HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
    "TURNSTREAM_SSE__TICK_SECONDS": "0.01",
    "TURNSTREAM_SSE__ABANDON_GRACE_SECONDS": "0.3",
    # Tests are their own proxy.
    "TURNSTREAM_INGEST__TRUSTED_PROXIES": '["127.0.0.0/8", "10.0.0.0/8"]',
    "TURNSTREAM_INGEST__KEY_CACHE_SECONDS": str(KEY_CACHE_SECONDS),
    "TURNSTREAM_AUTH__KEY_CACHE_S": str(KEY_CACHE_SECONDS),
    "TURNSTREAM_PLANS": json.dumps(
        {
            "enterprise": {"requests_per_minute": 10_000, "tokens_per_minute": 10_000_000},
            "free": {"models": [MODEL], "requests_per_minute": 600, "tokens_per_minute": 1_000_000},
            "tiny": {"models": [MODEL], "requests_per_minute": REQUESTS_OF_TINY, "tokens_per_minute": 1_000_000},
            "meagre": {"models": [MODEL], "requests_per_minute": 600, "tokens_per_minute": 300},
            "daily": {"models": [MODEL], "requests_per_minute": 600, "requests_per_day": REQUESTS_OF_DAILY},
            "single": {"models": [MODEL], "requests_per_minute": 600, "concurrent_turns_max": 1},
        }
    ),
    "TURNSTREAM_KAFKA__SESSION_MS_MAX": "6000",
    "TURNSTREAM_INFERENCE__OUTAGE_MS_MAX": "10000",
    "TURNSTREAM_WINDOWS__SESSION_TIMEOUT_S": "6",
    "TURNSTREAM_USAGE_SINK__FILE_SECONDS_MAX": "1",
    "TURNSTREAM_USAGE_SINK__ROLL_CHECK_SECONDS": "0.1",
    "TURNSTREAM_LOG__LEVEL": "debug",
}

# The demonstration model reads these when its server starts; a prompt may still ask for another pace.
MODEL_PACE: Final[Mapping[str, str]] = {"TURNSTREAM_DEMO_FIRST_TOKEN_MS": "10", "TURNSTREAM_DEMO_GAP_MS": "2"}

_T = TypeVar("_T")


@dataclass
class StreamedTurn:
    """What a client saw of one streamed turn so far."""

    chunks: list[ChatCompletionChunk] = field(default_factory=list)

    async def read(self, stream: AsyncIterator[ChatCompletionChunk], until: str | None = None) -> Self:
        """Read on to the end, or until the answer contains ``until``. Raises what the stream raises."""
        # Not `async for`: left early, that closes the stream.
        while until is None or until not in self.text:
            try:
                self.chunks.append(await anext(stream))
            except StopAsyncIteration:
                break
        return self

    @property
    def id(self) -> str:
        """The public id of the turn; there is one from the first chunk on."""
        return self.chunks[0].id

    @property
    def turn_id(self) -> str:
        """The id as the log has it."""
        return self.id.removeprefix("chatcmpl-")

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(choice.delta.content or "" for chunk in self.chunks for choice in chunk.choices)

    @property
    def finish_reasons(self) -> list[str]:
        """Every finish reason that came; one in an orderly stream."""
        return [one.finish_reason for chunk in self.chunks for one in chunk.choices if one.finish_reason]


@dataclass(frozen=True)
class FullStack:
    """A running stack. Its clients never retry, so that a test sees every answer."""

    stack: Stack
    home: Path

    @property
    def base_url(self) -> str:
        """The edge, up to and including ``/v1``."""
        return self.stack.endpoints.base_url or ""

    @property
    def ready_url(self) -> str:
        """What a load balancer asks the edge."""
        return self.base_url.removesuffix("/v1") + "/readyz"

    @property
    def key(self) -> str:
        """The development key, of the plan ``enterprise``."""
        return self.stack.endpoints.key or ""

    @property
    def logs(self) -> Path:
        """The folder of the process logs."""
        return self.stack.layout.logs

    def url_of(self, edge: str) -> str:
        """One of several edges by the name of its part, up to and including ``/v1``."""
        return f"http://{LOOPBACK}:{self.stack.part(edge).port}/v1"

    def client(self, key: str | None = None) -> AsyncOpenAI:
        """The SDK as its users have it, but for retries."""
        return AsyncOpenAI(base_url=self.base_url, api_key=key or self.key, max_retries=0, timeout=TURN_SECONDS_MAX)

    def blocking_client(self, key: str | None = None) -> OpenAI:
        """The same without asyncio."""
        return OpenAI(base_url=self.base_url, api_key=key or self.key, max_retries=0, timeout=TURN_SECONDS_MAX)

    def wire(self, key: str | None = None) -> httpx2.AsyncClient:
        """HTTP without an SDK, for what the SDK hides or cannot send."""
        return httpx2.AsyncClient(
            base_url=self.base_url,
            headers={"authorization": f"Bearer {key or self.key}"},
            timeout=TURN_SECONDS_MAX,
        )

    def command(
        self, *arguments: str, piped: str | None = None, environ: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run ``turnstream`` beside the stack, as from another terminal."""
        return subprocess.run(  # noqa: S603 - our own command line
            (sys.executable, "-m", "turnstream", *arguments),
            env={**command_environment(self.home), **(environ or {})},
            input=piped,
            stdin=subprocess.DEVNULL if piped is None else None,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )

    async def new_key(self, plan: str, user: str) -> str:
        """A key of a new user of the tenant ``acme``, written where ``turnstream keys create`` writes it."""
        key = make_api_key(secrets.token_bytes(KEY_ENTROPY_BYTES))
        row = ApiKeyRow(
            key_hash=key_hash(key, self.pepper),
            key_id=key.key_id,
            tenant_id="acme",
            user_id=user,
            plan=plan,
            label="e2e",
            created_at_ms=time.time_ns() // 1_000_000,
        )
        host, port = self.stack.endpoints.cassandra or ("", 0)
        async with open_session(CassandraSettings(contact_points=(host,), port=port)) as cql:
            await create_key_row(cql, row)
        return key.text

    @property
    def pepper(self) -> bytes:
        """Under which keys are hashed here."""
        return Path(self.stack.environment()["TURNSTREAM_SECRETS__API_KEY_PEPPER_FILE"]).read_bytes().strip()

    async def records(self) -> list[LogRecord]:
        """Every record of every topic, as it lies on the broker now."""
        return await read_topics(self.stack.endpoints.kafka or "")

    async def records_of(self, turn_id: str) -> list[LogRecord]:
        """Every record that belongs to a turn."""
        return [record for record in await self.records() if record.turn_id == turn_id]

    async def rolled_up(self, user: str) -> dict[str, int]:
        """What the newest rollups of a user's minutes add up to: turns, prompt_tokens, completion_tokens."""
        newest: dict[bytes | None, dict[str, Any]] = {}
        for record in await self.records():
            if record.topic == "usage.rollups.v1" and f"|{user}|".encode() in (record.key or b""):
                rollup = json.loads(record.value)
                if rollup["window"] == "minute":
                    newest[record.key] = rollup
        names = ("turns", "prompt_tokens", "completion_tokens")
        return {name: sum(rollup[name] for rollup in newest.values()) for name in names}

    def pid(self, part: str) -> int:
        """The process id of a part that runs."""
        pid = self.stack.part(part).pid
        if pid is None:
            raise AssertionError(f"{part} does not run")
        return pid

    def send_signal(self, part: str, number: signal.Signals) -> int:
        """Signal a part; returns the process id that it had."""
        pid = self.pid(part)
        os.kill(pid, number)
        return pid

    @contextmanager
    def stopped(self, part: str) -> Iterator[None]:
        """A part stands still (SIGSTOP) until the block ends, whatever happens in it."""
        pid = self.send_signal(part, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def replaced(self, part: str, old_pid: int) -> None:
        """Wait until the supervisor has another process of this part, and it says that it is ready."""

        async def ready() -> bool:
            status = self.stack.part(part)
            return status.state is PartState.READY and status.pid not in {None, old_pid}

        await eventually(ready, RECOVERY_SECONDS_MAX)


async def eventually(probe: Callable[[], Awaitable[_T]], seconds_max: float = SETTLE_SECONDS_MAX) -> _T:
    """The first truthy answer of ``probe``. Raises AssertionError with the last one after ``seconds_max``."""
    deadline_s = time.monotonic() + seconds_max
    while not (found := await probe()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {seconds_max} s; the last answer was {found!r}")
        await asyncio.sleep(POLL_SECONDS)
    return found


async def stored_answer(client: AsyncOpenAI, conversation_id: str, seconds_max: float = SETTLE_SECONDS_MAX) -> str:
    """The newest message of a conversation, as soon as it is a complete answer."""

    async def complete() -> str | None:
        page = await client.get(f"/conversations/{conversation_id}/items", cast_to=dict[str, Any])
        for newest in page["data"][:1]:
            if (newest["role"], newest["status"]) == ("assistant", "completed"):
                return str(newest["content"][0]["text"])
        return None

    return await eventually(complete, seconds_max) or ""


def command_environment(home: Path) -> dict[str, str]:
    """The environment of a terminal on this machine: nothing of ours in it but where the stack and its jars lie."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TURNSTREAM_")}
    return inherited | {
        "TURNSTREAM_STACK__HOME": str(home),
        "TURNSTREAM_STACK__JARS": str(StackSettings().layout().jars),
        # Where `turnstream chat` remembers the last conversation.
        "HOME": str(home.parent),
        "XDG_CONFIG_HOME": str(home.parent),
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }


@contextmanager
def full_stack(
    home: Path,
    replicas: int = 1,
    changed: Mapping[str, str] | None = None,
    policy: RestartPolicy | None = None,
) -> Iterator[FullStack]:
    """Everything, ready, in ``home``; gone afterwards, whatever happened in between, but for the logs.

    ``replicas`` of each process of ours (``edge``, ``edge-2``, ...), with the settings ``changed`` from these here.

    Jars are looked for where the environment says (``TURNSTREAM_STACK__JARS``), else in the checkout's own stack.
    """
    settings = StackSettings(home=home, jars=StackSettings().layout().jars)
    rows = replicated(tuple(_with_settings(row, {**SETTINGS, **(changed or {})}) for row in PROCESSES), replicas)
    stack = Stack(settings, StackOptions(processes=rows), policy=policy)
    with patch.dict(os.environ, MODEL_PACE):
        stack.start()
    try:
        yield FullStack(stack, home)
    finally:
        stack.stop()
        shutil.rmtree(stack.layout.data)


def _with_settings(row: OurProcess, settings: Mapping[str, str]) -> OurProcess:
    # `env` becomes the process, so its pid stays; our own environment is not touched: other tests read it.
    return replace(row, argv=("env", *(f"{name}={value}" for name, value in settings.items()), *row.argv))
