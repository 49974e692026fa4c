"""What the log says of a generation that failed: which server, and why, for whoever looks at the servers next."""

import asyncio
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from consumers.inference import turn_run
from consumers.inference.backend_set import BackendSet
from consumers.inference.failures import NotServed
from consumers.inference.pool import BackendKind, PoolSettings
from consumers.inference.stage import connect_server
from schemas.errors import Malformed, Retryable
from tests.unit.inference.inference_fakes import FakeBackend, World, make_request, receive

PROMPT = "a question that no log line may show"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    """What a run of a turn logs, however other tests configured logging."""
    capturing = CapturingLogger()
    monkeypatch.setattr(turn_run, "_log", capturing)
    return capturing


async def failures_told(log: CapturingLogger, backend: FakeBackend | BackendSet) -> list[dict[str, Any]]:
    await World().stage(backend=backend)(receive(make_request(text=PROMPT)))
    assert PROMPT not in repr(log.calls)
    return [call.kwargs for call in log.calls if call.args == ("generation_failed",)]


@pytest.mark.parametrize("error", [Retryable("the upstream answered 503"), Malformed("no"), NotServed("not to us")])
async def test_a_failure_is_told_with_its_server_and_its_reason(error: Exception, log: CapturingLogger) -> None:
    pool = PoolSettings(url="http://user:pass@gpu-1:8000/v1")
    told = await failures_told(
        log, BackendSet(pool, lambda _: FakeBackend(faults=dict.fromkeys(range(99), (0, error))))
    )
    first = told[0]
    assert (first["pool"], first["server"]) == ("fast", "http://gpu-1:8000/v1")
    assert (first["cause"], first["error"]) == (type(error).__name__, str(error))
    assert "pass" not in repr(told)


async def test_a_server_that_nobody_reaches_is_named(log: CapturingLogger) -> None:
    async with asyncio.timeout(10):
        server = await asyncio.start_server(lambda _r, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        url = f"http://127.0.0.1:{port}/v1"
        backends = BackendSet(PoolSettings(backend=BackendKind.OPENAI, url=url), connect_server)
        first, *_ = await failures_told(log, backends)
        await backends.close()
    assert (first["server"], first["error"]) == (url, "the upstream failed: no connection: ConnectionRefusedError")


async def test_a_backend_that_is_no_set_names_no_server(log: CapturingLogger) -> None:
    first, *_ = await failures_told(log, FakeBackend(faults={0: (0, Retryable("gone"))}))
    assert (first["server"], first["error"]) == (None, "gone")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("gpu-1:8001", "gpu-1:8001"),
        ("http://gpu-1/v1", "http://gpu-1/v1"),
        ("https://user:p%40ss@models.example:8443/v1", "https://models.example:8443/v1"),
        ("https://models.example/v1?api-key=geheim", "https://models.example/v1"),
        ("token@gpu-1:8001", "gpu-1:8001"),
        ("http://a:://b@gpu-1/v1", "http://gpu-1/v1"),
    ],
)
def test_an_address_shows_no_credential(url: str, address: str) -> None:
    assert PoolSettings(url=url).address == address
