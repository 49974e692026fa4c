"""What can go wrong, in two languages: what a consumer does about it, and what a client is told."""

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field


class Malformed(Exception):
    """The record can never be processed as it is: dead-letter it, tell the client, go on."""


class Retryable(Exception):
    """A dependency did not answer: the same record may succeed later, within named bounds."""


class Fatal(Exception):
    """The process cannot go on safely: stop it and let the supervisor start a fresh one."""


class RecordTooLarge(Malformed):
    """The record exceeds its topic's size limit; found before sending, so the producer stays usable."""


class OutcomeUnknown(Retryable):
    """An append timed out or failed half-way: the records may or may not be on the log."""


class ErrorType(StrEnum):
    """OpenAI's ``error.type`` values, as its clients switch on them."""

    INVALID_REQUEST = "invalid_request_error"
    AUTHENTICATION = "authentication_error"
    PERMISSION = "permission_error"
    NOT_FOUND = "not_found_error"
    CONFLICT = "conflict_error"
    RATE_LIMIT = "rate_limit_error"
    INSUFFICIENT_QUOTA = "insufficient_quota"
    SERVER = "server_error"
    UNAVAILABLE = "service_unavailable_error"


class ErrorBody(BaseModel):
    """The inside of OpenAI's error object: ``{"error": {message, type, param, code}}``, these four always present."""

    model_config = ConfigDict(frozen=True)

    message: str = Field(description="For a person. Never contains user content or a credential.")
    type: ErrorType
    param: str | None = Field(default=None, description="The request field at fault, if one is.")
    code: str | None = Field(default=None, description="For a program; stable.")
    active_turn_id: str | None = Field(
        default=None,
        exclude_if=lambda turn_id: turn_id is None,
        description="Public id of the turn that runs in the conversation: attach to it or cancel it.",
    )


class Refusal(BaseModel):
    """Why a turn ends without an answer, as the client will see it."""

    model_config = ConfigDict(frozen=True)

    status: int = Field(ge=400, le=599, description="HTTP status code.")
    error: ErrorBody
    retry_after_s: int | None = Field(default=None, ge=1, description="Seconds; sent as Retry-After.")


def invalid_request(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> Refusal:
    """A request that can never succeed as it is."""
    return Refusal(
        status=status, error=ErrorBody(message=message, type=ErrorType.INVALID_REQUEST, param=param, code=code)
    )


def invalid_api_key() -> Refusal:
    """401: the key is malformed, unknown, revoked or expired; which of these is not told."""
    return Refusal(
        status=401,
        error=ErrorBody(
            message="Incorrect API key provided. Check the Authorization header.",
            type=ErrorType.AUTHENTICATION,
            code="invalid_api_key",
        ),
    )


def invalid_access_token() -> Refusal:
    """401: the access token is malformed, not ours, or has expired."""
    return _unauthenticated(
        "The access token is invalid or has expired. Refresh it, or log in.", "invalid_access_token"
    )


def access_lost(reason: str) -> Refusal:
    """401: what ends a response whose key, session or user has lost the access meanwhile."""
    code, message = _ACCESS_LOST.get(reason, _ACCESS_LOST["logged_out"])
    return _unauthenticated(message, code)


def account_suspended(until: str, seconds: int) -> Refusal:
    """403: the account was suspended for a while; ``until`` is a date and time in words, ``seconds`` from now."""
    return Refusal(
        status=403,
        error=ErrorBody(
            message=f"This account is suspended until {until} because of how it was used.",
            type=ErrorType.PERMISSION,
            code="account_suspended",
        ),
        retry_after_s=max(1, seconds),
    )


def model_not_found(model: str) -> Refusal:
    """404: no such model, or none that this account may use."""
    return Refusal(
        status=404,
        error=ErrorBody(
            message=f"The model '{model[:64]}' does not exist or you do not have access to it.",
            type=ErrorType.INVALID_REQUEST,
            param="model",
            code="model_not_found",
        ),
    )


def unsupported_by_model(param: str, model: str) -> Refusal:
    """400: the model that was asked cannot do what a parameter asks for."""
    return invalid_request(f"'{param}' is not supported with the model '{model[:64]}'.", param, "unsupported_parameter")


def conversation_not_found() -> Refusal:
    """404, the same for an unknown conversation and for somebody else's."""
    return Refusal(
        status=404,
        error=ErrorBody(
            message="No such conversation.",
            type=ErrorType.INVALID_REQUEST,
            param="conversation_id",
            code="conversation_not_found",
        ),
    )


def conversation_item_not_found() -> Refusal:
    """404: the conversation has no such message."""
    return Refusal(
        status=404,
        error=ErrorBody(
            message="No such item in this conversation.",
            type=ErrorType.INVALID_REQUEST,
            param="item_id",
            code="item_not_found",
        ),
    )


def conversation_busy(active_turn_id: str) -> Refusal:
    """409: the conversation's last turn is not over; ``active_turn_id`` is its public id."""
    return Refusal(
        status=409,
        error=ErrorBody(
            message="A turn of this conversation is still running. Attach to it, cancel it or wait for its end.",
            type=ErrorType.CONFLICT,
            param="conversation_id",
            code="conversation_busy",
            active_turn_id=active_turn_id,
        ),
    )


def idempotency_mismatch() -> Refusal:
    """422: the key was used for another request."""
    return invalid_request(
        "This idempotency key was used for a request with another body. Use a new key for a new request.",
        code="idempotency_key_reused",
        status=422,
    )


def storage_unavailable() -> Refusal:
    """503: the turn needs a store that does not answer; nothing was done."""
    return unavailable(
        "The storage of conversations does not answer. Retry shortly.", "storage_unavailable", retry_after_s=5
    )


def unavailable(message: str, code: str = "server_is_overloaded", retry_after_s: int = 1) -> Refusal:
    """503: our capacity or a dependency, not the client's quota."""
    return Refusal(
        status=503,
        error=ErrorBody(message=message, type=ErrorType.UNAVAILABLE, code=code),
        retry_after_s=retry_after_s,
    )


def server_error(message: str, code: str = "internal_error") -> Refusal:
    """500: our fault; the turn will not be answered."""
    return Refusal(status=500, error=ErrorBody(message=message, type=ErrorType.SERVER, code=code))


_ACCESS_LOST: Final = {
    "revoked": ("key_revoked", "This API key was revoked."),
    "expired": ("key_expired", "This API key has expired."),
    "suspended": ("account_suspended", "This account was suspended."),
    "logged_out": ("session_ended", "This session was ended."),
}


def _unauthenticated(message: str, code: str) -> Refusal:
    return Refusal(status=401, error=ErrorBody(message=message, type=ErrorType.AUTHENTICATION, code=code))
