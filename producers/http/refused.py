"""The one exception with which an API says no."""

from schemas.errors import Refusal


class RequestRefused(Exception):
    """The HTTP answer to this request is ``refusal``."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error.code or refusal.error.type.value)
        self.refusal = refusal
