"""What a body that does not fit its model is told: OpenAI's error object, naming the field, never a value."""

from typing import Any, Final, TypeVar

from pydantic import BaseModel, Discriminator, ValidationError
from pydantic_core import ErrorDetails

from producers.http.refused import RequestRefused
from schemas.errors import Refusal, invalid_request

TEXT_TAG: Final = "<text>"
LIST_TAG: Final = "<list>"
_PARAM_CHARS_MAX: Final = 128
_OF_LENGTH: Final = ("too_short", "too_long")
_JSON_TERMS: Final = {"Tuple": "Array", "List": "Array", "Dictionary": "Object"}
# pydantic's last step to a key of an object that does not fit; the key is the step before.
_KEY: Final = "[key]"
_ModelT = TypeVar("_ModelT", bound=BaseModel)


def parse_body(model: type[_ModelT], body: bytes) -> _ModelT:
    """``body`` as ``model``. Raises RequestRefused (400)."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RequestRefused(explain(error)) from None


def explain(error: ValidationError) -> Refusal:
    """The first problem of a body; ``param`` is the path to the field.

    Tags of unions are left out: they are no part of the body.
    """
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if problem["type"] == "json_invalid":
        return invalid_request("The request body is not valid JSON.", code="invalid_json")
    return refusal_of(problem["type"], problem["msg"], _path(problem) or None)


def refusal_of(kind: str, message: str, param: str | None) -> Refusal:
    """What pydantic's problem of this ``kind`` with ``param`` is told as; None: with the body as a whole."""
    if kind == "missing":
        return invalid_request(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    if kind == "extra_forbidden":
        return invalid_request(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    words = _in_json_terms(message) if kind in _OF_LENGTH else message
    return invalid_request(f"Invalid value for '{param or 'body'}': {words}.", param, code)


def printable(name: str, chars_max: int = _PARAM_CHARS_MAX) -> str:
    """A name that a client made up, fit to be shown to it again."""
    return "".join(character for character in name[:chars_max] if character.isprintable())


def tag_of(value: Any) -> str | None:
    """The tag of a value in a union whose members are told apart by ``type``: strings, lists, and objects by theirs.

    Tags are in angle brackets, which keeps them apart from field names in the locations of problems.
    """
    if isinstance(value, str):
        return TEXT_TAG
    if isinstance(value, list | tuple):
        return LIST_TAG
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>" if isinstance(kind, str) else None


def discriminator(expected: str) -> Discriminator:
    """Tells the members of a union apart by ``tag_of``; what is none of them is told to be no ``expected``."""
    return Discriminator(tag_of, custom_error_type="union_type", custom_error_message=f"Input should be {expected}")


def _in_json_terms(message: str) -> str:
    """``Tuple should have at least 1 item after validation, not 0``, for who has never seen a tuple."""
    kind, _, rest = message.partition(" ")
    return f"{_JSON_TERMS.get(kind, kind)} {rest}".replace(" after validation", "")


def _path(problem: ErrorDetails) -> str:
    path = ""
    for step in problem["loc"]:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("<") and step != _KEY:
            path += f".{step}" if path else step
    return printable(path)
