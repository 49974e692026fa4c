"""Tools and forms of answers in a request, in OpenAI's shapes, and what they become. Strictly typed.

JSON Schemas of clients are passed on as text: what a model makes of them is between it and the client.
"""

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, Tag

from producers.http.refused import RequestRefused
from producers.http.validation import TEXT_TAG, discriminator
from schemas.content import Content
from schemas.errors import invalid_request
from schemas.generation import FunctionTool, ResponseFormat, ToolChoice

TOOLS_MAX: Final = 128
SCHEMA_CHARS_MAX: Final = 65_536
DESCRIPTION_CHARS_MAX: Final = 16_384

_CLOSED: Final = ConfigDict(
    strict=True, frozen=True, extra="forbid", hide_input_in_errors=True, serialize_by_alias=True
)

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Description = Annotated[str | None, Field(max_length=DESCRIPTION_CHARS_MAX)]


class FunctionDefinition(BaseModel):
    """A function that the model may want called."""

    model_config = _CLOSED

    name: FunctionName
    description: Description = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(BaseModel):
    """One element of ``tools``; functions are the only kind."""

    model_config = _CLOSED

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(BaseModel):
    """A function by its name."""

    model_config = _CLOSED

    name: FunctionName


class NamedTool(BaseModel):
    """A tool by its name."""

    model_config = _CLOSED

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(BaseModel):
    """Some of the tools, and whether one of them must be called."""

    model_config = _CLOSED

    mode: Literal["auto", "required"]
    tools: tuple[NamedTool, ...] = Field(min_length=1, max_length=TOOLS_MAX)


class AllowedToolChoice(BaseModel):
    """The choice among some of the tools."""

    model_config = _CLOSED

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class JsonSchemaFormat(BaseModel):
    """The schema that the answer must satisfy."""

    model_config = _CLOSED

    name: FunctionName
    description: Description = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextAnswer(BaseModel):
    """Any text."""

    model_config = _CLOSED

    type: Literal["text"]


class JsonObjectAnswer(BaseModel):
    """Any JSON object."""

    model_config = _CLOSED

    type: Literal["json_object"]


class JsonSchemaAnswer(BaseModel):
    """JSON of a schema."""

    model_config = _CLOSED

    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat


AnswerFormat = Annotated[
    Annotated[TextAnswer, Tag("<text>")]
    | Annotated[JsonObjectAnswer, Tag("<json_object>")]
    | Annotated[JsonSchemaAnswer, Tag("<json_schema>")],
    discriminator("a response format of type text, json_object or json_schema"),
]
Choice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag(TEXT_TAG)]
    | Annotated[NamedTool, Tag("<function>")]
    | Annotated[AllowedToolChoice, Tag("<allowed_tools>")],
    discriminator("none, auto, required, a function or allowed_tools"),
]


def function_tool(definition: FunctionDefinition, param: str) -> FunctionTool:
    """The tool as it travels. Raises RequestRefused (400) when its schema is too long."""
    return FunctionTool(
        name=definition.name,
        description=None if definition.description is None else Content(definition.description),
        parameters=schema_text(definition.parameters, f"{param}.parameters"),
        strict=definition.strict,
    )


def response_format(asked: AnswerFormat | None) -> ResponseFormat | None:
    """The form as it travels; None for plain text. Raises RequestRefused (400) when its schema is too long."""
    if asked is None or isinstance(asked, TextAnswer):
        return None
    if isinstance(asked, JsonObjectAnswer):
        return ResponseFormat(kind="json_object")
    form = asked.json_schema
    return ResponseFormat(
        kind="json_schema",
        name=form.name,
        description=None if form.description is None else Content(form.description),
        json_schema=schema_text(form.json_schema, "response_format.json_schema.schema"),
        strict=form.strict,
    )


def tool_choice(asked: Choice | None) -> ToolChoice | None:
    """The choice as it travels."""
    match asked:
        case None:
            return None
        case NamedTool():
            return ToolChoice(mode="required", function=asked.function.name)
        case AllowedToolChoice():
            allowed = asked.allowed_tools
            return ToolChoice(mode=allowed.mode, allowed=tuple(tool.function.name for tool in allowed.tools))
        case mode:
            return ToolChoice(mode=mode)


def check_tools(tools: tuple[FunctionTool, ...], choice: ToolChoice | None) -> None:
    """Refuse tools of one name, and a choice of tools that are not there. Raises RequestRefused (400)."""
    names = [tool.name for tool in tools]
    if len(set(names)) != len(names):
        raise _invalid("Every function needs a name of its own.", "tools")
    if choice is None:
        return
    if choice.mode == "required" and not tools:
        raise _invalid("'tool_choice' needs 'tools' to choose from.", "tool_choice")
    chosen = {*choice.allowed, *(() if choice.function is None else (choice.function,))}
    if chosen - set(names):
        raise _invalid("'tool_choice' names a function that is not among 'tools'.", "tool_choice")


def schema_text(schema: dict[str, Any] | None, param: str) -> Content | None:
    """A JSON Schema as compact JSON text. Raises RequestRefused (400) when it is too long."""
    if schema is None:
        return None
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if len(text) > SCHEMA_CHARS_MAX:
        raise _invalid(f"A schema may have at most {SCHEMA_CHARS_MAX} characters.", param)
    return Content(text)


def _invalid(message: str, param: str) -> RequestRefused:
    return RequestRefused(invalid_request(message, param, "invalid_value"))
