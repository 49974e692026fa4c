"""Real Triton servers that a test may kill."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from turnstream.local_stack.layout import Layout
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.triton import find_triton, triton_part

STOP_SECONDS_MAX = 10


def free_port() -> int:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@dataclass
class TritonServer:
    """One server on its own ports."""

    process: "subprocess.Popen[bytes]"
    url: str

    def send(self, number: signal.Signals) -> None:
        """Signal the server and its model processes."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End it at once; a stopped one too."""
        if self.process.poll() is None:
            self.send(signal.SIGKILL)
        self.process.wait(STOP_SECONDS_MAX)


@contextmanager
def triton_server(home: Path, port: int | None = None) -> Iterator[TritonServer]:
    """A server with the demonstration model; it may not be ready yet."""
    build = find_triton()
    if isinstance(build, str):
        pytest.skip(build)
    layout = Layout(home=home, jars=home / "jars")
    layout.create()
    grpc_port = port or free_port()
    models = StackSettings().model_repository()
    part = triton_part(layout, build, models, grpc_port=grpc_port, http_port=free_port())
    with (home / "triton.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            part.argv, stdout=log, stderr=log, env={**os.environ, **part.environment}, start_new_session=True
        )
        server = TritonServer(process, f"127.0.0.1:{grpc_port}")
        try:
            yield server
        finally:
            server.kill()
