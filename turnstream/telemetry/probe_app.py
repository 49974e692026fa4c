"""``/healthz``, ``/readyz`` and ``/metrics`` of a process, as a bare ASGI application."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from turnstream.telemetry.prometheus import CONTENT_TYPE, PrometheusMetrics
from turnstream.telemetry.readiness import Readiness

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ProbeApp:
    """Answers a supervisor and a Prometheus scraper; nothing else."""

    def __init__(self, metrics: PrometheusMetrics, readiness: Readiness) -> None:
        self._metrics = metrics
        self._readiness = readiness

    async def __call__(self, scope: MutableMapping[str, Any], _receive: Receive, send: Send) -> None:
        """One HTTP exchange."""
        if scope["type"] != "http":
            return
        status, content_type, body = self._answer(scope["path"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        match path:
            case "/healthz":
                return 200, "application/json", b'{"status":"alive"}'
            case "/readyz":
                failing = self._readiness.failing()
                body = {"status": "waiting", "waiting_for": failing} if failing else {"status": "ready"}
                return 503 if failing else 200, "application/json", json.dumps(body).encode()
            case "/metrics":
                return 200, CONTENT_TYPE, self._metrics.exposition()
            case _:
                return 404, "application/json", b'{"status":"not found"}'
