"""A client that keeps what is written to it."""

from collections.abc import Callable, MutableMapping
from typing import Any

from schemas.ports import ClientChannel


class WrittenClient:
    """Takes what is written; leaves when told to. Its own link; ``pieces`` are those that came by it.

    ``behind``: it takes no pieces for now.
    """

    def __init__(self) -> None:
        self.messages: list[MutableMapping[str, Any]] = []
        self.pieces: list[bytes] = []
        self.behind = False
        self.gone = False
        self.on_gone: Callable[[], object] | None = None

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)

    @property
    def channel(self) -> ClientChannel:
        return ClientChannel(self.send, self)

    @property
    def ready(self) -> bool:
        return bool(self.messages) and not self.gone and not self.behind

    def write_piece(self, piece: bytes) -> None:
        assert self.ready
        self.pieces.append(piece)
        self.messages.append({"type": "http.response.body", "body": piece, "more_body": True})

    def leave(self) -> None:
        self.gone = True
        if self.on_gone is not None:
            self.on_gone()

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def ended(self) -> bool:
        return bool(self.messages) and not self.messages[-1].get("more_body", True)
