"""Why a turn fails here: what a backend raises, and what a client is told. Pure."""

from schemas import errors
from schemas.errors import ErrorBody, ErrorType, Malformed, Refusal


class PrefixUnsupported(Malformed):
    """The backend cannot continue an answer that has already begun."""


class NotServed(Malformed):
    """The pool does not serve this model, or not to us: another pool may."""


class ParameterUnsupported(Malformed):
    """The backend has no means to do what this field of the request asks for."""

    def __init__(self, param: str) -> None:
        super().__init__(f"this backend does not support {param}")
        self.param = param


def deadline_exceeded() -> Refusal:
    """504: nobody waits for this answer any more."""
    body = ErrorBody(message="The answer was not complete in time.", type=ErrorType.SERVER, code="deadline_exceeded")
    return Refusal(status=504, error=body)


def refusal(cause: Exception | None) -> Refusal:
    """What a client is told when the backend failed for ``cause`` and is not asked again."""
    return rejected(cause) if isinstance(cause, Malformed) else upstream_unavailable()


def upstream_unavailable() -> Refusal:
    """503: the backend could not be reached within the allowed tries."""
    return errors.unavailable("The model is not available at the moment.", code="upstream_unavailable", retry_after_s=5)


def rejected(cause: Malformed) -> Refusal:
    """502, or 400 with the field at fault: this request will never be answered here.

    The backend's own words are not told: they may quote the prompt.
    """
    if isinstance(cause, ParameterUnsupported):
        return errors.invalid_request(
            f"The model does not support '{cause.param}'.", param=cause.param, code="unsupported_parameter"
        )
    if isinstance(cause, PrefixUnsupported):
        message, code = "The model cannot continue an interrupted answer.", "continuation_unsupported"
    else:
        message, code = "The model rejected the request.", "upstream_rejected"
    return Refusal(status=502, error=ErrorBody(message=message, type=ErrorType.SERVER, code=code))
