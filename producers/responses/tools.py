"""Tools and forms of answers in the shapes of the Responses API, and what they become. Strictly typed."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, Tag

from producers.chat_completions.tools import (
    TOOLS_MAX,
    Description,
    FunctionName,
    JsonObjectAnswer,
    TextAnswer,
    schema_text,
)
from producers.http.validation import TEXT_TAG, discriminator
from schemas import generation
from schemas.content import Content
from schemas.generation import ResponseFormat, ToolChoice, Verbosity

_CLOSED: Final = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


class FunctionTool(BaseModel):
    """A function that the model may want called; the only kind of tool."""

    model_config = _CLOSED

    type: Literal["function"]
    name: FunctionName
    description: Description = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(BaseModel):
    """A tool by its name."""

    model_config = _CLOSED

    type: Literal["function"]
    name: FunctionName


class AllowedTools(BaseModel):
    """The choice among some of the tools."""

    model_config = _CLOSED

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: tuple[NamedTool, ...] = Field(min_length=1, max_length=TOOLS_MAX)


class JsonSchemaAnswer(BaseModel):
    """JSON of a schema."""

    model_config = _CLOSED

    type: Literal["json_schema"]
    name: FunctionName
    description: Description = None
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


AnswerFormat = Annotated[
    Annotated[TextAnswer, Tag(TEXT_TAG)]
    | Annotated[JsonObjectAnswer, Tag("<json_object>")]
    | Annotated[JsonSchemaAnswer, Tag("<json_schema>")],
    discriminator("a format of type text, json_object or json_schema"),
]
Choice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag(TEXT_TAG)]
    | Annotated[NamedTool, Tag("<function>")]
    | Annotated[AllowedTools, Tag("<allowed_tools>")],
    discriminator("none, auto, required, a function or allowed_tools"),
]


class TextSettings(BaseModel):
    """The form of the answer's text."""

    model_config = _CLOSED

    format: AnswerFormat | None = None
    verbosity: Verbosity | None = None


def read_tool(tool: FunctionTool, param: str) -> generation.FunctionTool:
    """The tool as it travels. Raises RequestRefused (400) when its schema is too long."""
    return generation.FunctionTool(
        name=tool.name,
        description=None if tool.description is None else Content(tool.description),
        parameters=schema_text(tool.parameters, f"{param}.parameters"),
        strict=tool.strict,
    )


def read_tool_choice(asked: Choice | None) -> ToolChoice | None:
    """The choice as it travels."""
    match asked:
        case None:
            return None
        case NamedTool():
            return ToolChoice(mode="required", function=asked.name)
        case AllowedTools():
            return ToolChoice(mode=asked.mode, allowed=tuple(tool.name for tool in asked.tools))
        case mode:
            return ToolChoice(mode=mode)


def read_format(text: TextSettings) -> ResponseFormat | None:
    """The form as it travels; None for plain text. Raises RequestRefused (400) when its schema is too long."""
    asked = text.format
    if asked is None or isinstance(asked, TextAnswer):
        return None
    if isinstance(asked, JsonObjectAnswer):
        return ResponseFormat(kind="json_object")
    return ResponseFormat(
        kind="json_schema",
        name=asked.name,
        description=None if asked.description is None else Content(asked.description),
        json_schema=schema_text(asked.json_schema, "text.format.schema"),
        strict=asked.strict,
    )
