"""A real Redis of our own: on a Unix socket in a temporary folder, without persistence, gone with the test."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from turnstream.local_stack.redis_server import find_redis

START_S_MAX = 10.0
STOP_S_MAX = 5.0
POLL_S = 0.01


@contextmanager
def running_redis() -> Iterator[Path]:
    """The socket of a server that answers."""
    with tempfile.TemporaryDirectory(prefix="ts-redis-") as folder:
        socket = Path(folder, "redis.sock")
        command = [str(find_redis()), "--port", "0", "--unixsocket", str(socket), "--save", ""]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=dict(os.environ))  # noqa: S603
        try:
            _await_answer(socket, process)
            yield socket
        finally:
            process.terminate()
            process.wait(STOP_S_MAX)


def _await_answer(socket: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S_MAX
    with Redis(unix_socket_path=str(socket)) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"redis-server ended with status {process.returncode}")
            try:
                client.ping()
            except RedisConnectionError:
                time.sleep(POLL_S)
            else:
                return
    raise TimeoutError("redis-server did not answer")
