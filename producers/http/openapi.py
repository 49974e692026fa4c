"""``/openapi.json``, true to behaviour: to what each route says itself, what holds for all of them is added here."""

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI

from schemas.errors import ErrorBody

ERROR_NAME: Final = "Error"
KEY_SCHEME: Final = "key"
# A route below this that needs no key says so: `openapi_extra={"security": []}`.
KEYED_PATHS: Final = "/v1/"
# Answers that no route decides: the middleware, the body reader, the HTTP server, a dependency, a bug.
STATUSES_OF_ALL: Final = {
    400: "The request is wrong; `param` names the field.",
    431: "The head of the request is too large.",
    500: "A failure of ours.",
    503: "Our capacity or a dependency of ours; wait for `Retry-After`.",
}
STATUSES_WITH_BODY: Final = {408: "The request came too slowly.", 413: "The request is too large."}
STATUSES_WITH_KEY: Final = {401: "The key or the session is missing, unknown, revoked or expired."}
_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete"})
_COMPONENTS: Final = "#/components/schemas/"
_FASTAPI_ERRORS: Final = ("HTTPValidationError", "ValidationError")


class DescribedApi(FastAPI):
    """A FastAPI application whose OpenAPI document tells every status that a client can meet."""

    def openapi(self) -> dict[str, Any]:
        """The document; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi())
        return self.openapi_schema


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with the common errors, one error schema, the keys, and no dangling reference."""
    components: dict[str, Any] = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    components["securitySchemes"] = {
        KEY_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, or the access token of a session.",
        }
    }
    for path, operation in _operations(document):
        operation.setdefault("security", [{KEY_SCHEME: []}] if path.startswith(KEYED_PATHS) else [])
        _add_common_errors(operation)
    for name in _FASTAPI_ERRORS:
        schemas.pop(name, None)
    schemas[ERROR_NAME] = {
        "type": "object",
        "properties": {"error": _error_schema()},
        "required": ["error"],
        "title": ERROR_NAME,
    }
    _hoist(document, schemas)
    return document


def error_response(description: str) -> dict[str, Any]:
    """One documented error."""
    content = {"application/json": {"schema": {"$ref": _COMPONENTS + ERROR_NAME}}}
    return {"description": description, "content": content}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document.get("paths", {}).items():
        yield from ((path, operation) for method, operation in methods.items() if method in _METHODS)


def _add_common_errors(operation: dict[str, Any]) -> None:
    responses: dict[str, Any] = operation["responses"]
    if _FASTAPI_ERRORS[0] in str(responses.get("422")):
        # FastAPI's own guess: our handler answers 400.
        del responses["422"]
    statuses = dict(STATUSES_OF_ALL)
    if "requestBody" in operation:
        statuses |= STATUSES_WITH_BODY
    if operation["security"]:
        statuses |= STATUSES_WITH_KEY
    for number, description in statuses.items():
        responses.setdefault(str(number), error_response(description))
    for status, response in responses.items():
        if int(status) >= min(STATUSES_OF_ALL):
            response["content"] = error_response("")["content"]
    operation["responses"] = dict(sorted(responses.items()))


def _error_schema() -> dict[str, Any]:
    schema = ErrorBody.model_json_schema(mode="serialization")
    # All four are always there, null or not: OpenAI's clients read them without asking.
    schema["required"] = ["message", "type", "param", "code"]
    return schema


def _hoist(node: Any, schemas: dict[str, Any]) -> None:
    """Move definitions that lie within a schema to the components, where its references are made to point."""
    if isinstance(node, list):
        for item in node:
            _hoist(item, schemas)
    if not isinstance(node, dict):
        return
    definitions = node.pop("$defs", {})
    schemas.update((name, schema) for name, schema in definitions.items() if name not in schemas)
    reference = node.get("$ref")
    if isinstance(reference, str):
        node["$ref"] = reference.replace("#/$defs/", _COMPONENTS)
    # A list: hoisting adds to the components while they are walked.
    for value in [*node.values(), *definitions.values()]:
        _hoist(value, schemas)
