"""Every route of the edge and what it must answer to whom. A route without a row fails the build."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

MODEL: Final = "turnstream-fast"
SHORT: Final = "[[demo tokens=3 gap_ms=0 first_ms=0]] Hi."
_TURN: Final = {"model": MODEL, "messages": [{"role": "user", "content": SHORT}]}
_TEXT_ITEM: Final = {"items": [{"type": "message", "role": "user", "content": "hi"}]}


class Kind(Enum):
    """Whose a route is."""

    PUBLIC = "public"
    OWN = "own"
    OBJECT = "object"
    ADMIN = "admin"


@dataclass(frozen=True)
class Row:
    """One route. ``body`` is one that its owner may send; a higher ``last`` is asked after what needs what it takes."""

    kind: Kind
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    last: int = 0


def _public(body: Mapping[str, Any] | None = None) -> Row:
    return Row(Kind.PUBLIC, body)


def _own(body: Mapping[str, Any] | None = None, *, last: int = 0) -> Row:
    return Row(Kind.OWN, body, last=last)


def _object(body: Mapping[str, Any] | None = None, *, last: int = 0, **query: str) -> Row:
    return Row(Kind.OBJECT, body, query, last=last)


_COMPLETIONS: Final = "/v1/chat/completions"
_COMPLETION: Final = _COMPLETIONS + "/{completion_id}"
_CONVERSATION: Final = "/v1/conversations/{conversation_id}"
_RESPONSE: Final = "/v1/responses/{response_id}"
_ITEM: Final = _CONVERSATION + "/items/{item_id}"
_PASSWORD: Final = {"email": "nobody@example.org", "password": "not the password"}

# Answers of a public route depend on its body alone.
ROWS: Final[Mapping[tuple[str, str], Row]] = {
    ("GET", "/healthz"): _public(),
    ("GET", "/readyz"): _public(),
    ("GET", "/metrics"): _public(),
    ("GET", "/openapi.json"): _public(),
    ("GET", "/docs"): _public(),
    ("GET", "/docs/{name}"): _public(),
    ("GET", "/.well-known/jwks.json"): _public(),
    ("POST", "/v1/auth/register"): _public({"email": "nobody", "password": ""}),
    ("POST", "/v1/auth/login"): _public(_PASSWORD),
    ("POST", "/v1/auth/refresh"): _public({"refresh_token": "tsr-none"}),
    ("POST", "/v1/auth/logout"): _own(last=4),
    ("GET", "/v1/auth/me"): _own(),
    ("GET", "/v1/api_keys"): _own(),
    ("POST", "/v1/api_keys"): _own({"label": "another"}),
    ("GET", "/v1/api_keys/{key_id}"): _object(),
    ("DELETE", "/v1/api_keys/{key_id}"): _object(last=1),
    ("GET", "/v1/admin/users"): Row(Kind.ADMIN),
    ("POST", "/v1/admin/users/{user_id}"): Row(Kind.ADMIN, {}),
    ("GET", "/v1/models"): _own(),
    ("GET", "/v1/models/{model_id}"): _own(),
    ("POST", "/v1/moderations"): _own({"input": "hi"}),
    ("GET", "/v1/organization/usage/completions"): Row(Kind.OWN, query={"start_time": "1795000000"}),
    ("GET", "/v1/organization/costs"): Row(Kind.OWN, query={"start_time": "1795000000"}),
    ("POST", _COMPLETIONS): _own(_TURN),
    ("GET", _COMPLETIONS): _own(),
    ("GET", _COMPLETION): _object(),
    ("POST", _COMPLETION): _object({"metadata": {"mine": "yes"}}),
    ("DELETE", _COMPLETION): _object(last=2),
    ("GET", _COMPLETION + "/messages"): _object(),
    ("GET", _COMPLETION + "/stream"): _object(),
    ("POST", _COMPLETION + "/cancel"): _object(),
    ("POST", "/v1/responses"): _own({"model": MODEL, "input": SHORT}),
    ("GET", _RESPONSE): _object(),
    ("DELETE", _RESPONSE): _object(last=1),
    ("POST", _RESPONSE + "/cancel"): _object(),
    ("GET", _RESPONSE + "/input_items"): _object(),
    ("GET", "/v1/conversations"): _own(),
    ("POST", "/v1/conversations"): _own({}),
    ("GET", _CONVERSATION): _object(),
    ("POST", _CONVERSATION): _object({"title": "Mine"}),
    ("DELETE", _CONVERSATION): _object(last=3),
    ("GET", _CONVERSATION + "/export"): _object(),
    ("GET", _CONVERSATION + "/items"): _object(),
    ("POST", _CONVERSATION + "/items"): _object(_TEXT_ITEM),
    ("GET", _ITEM): _object(),
    ("DELETE", _ITEM): _object(last=1),
    ("POST", _ITEM + "/edit"): _object({"model": MODEL, "content": SHORT}),
    ("POST", _ITEM + "/regenerate"): _object({"model": MODEL}),
}
