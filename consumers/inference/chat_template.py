"""Messages to the one text that a model reads. Pure.

Forms: ChatML (Qwen, OpenHermes and many others; tools as Hermes models know them,
https://github.com/NousResearch/Hermes-Function-Calling) and Llama 3
(https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-3/).
"""

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from consumers.inference.tool_markup import CALL_CLOSE, CALL_OPEN, bare_call, call_body, system_text
from schemas.generation import PLAIN, Generation
from schemas.messages import Message, Role, ToolCall


class Template(StrEnum):
    """The chat templates that we can render."""

    CHATML = "chatml"
    LLAMA3 = "llama3"


# The tags are single tokens of the models that know them, and as strong as the special ones.
_SPECIAL: Final = re.compile(r"<(?=\|[^|\s]{1,64}\|>|/?(?:tool_call|tool_response|tools|answer_schema)>)")
# Both forms know no developer role; its instructions are the system's.
_ROLES: Final = {Role.DEVELOPER: Role.SYSTEM}
_END_OF_TURN: Final = {Template.CHATML: "<|im_end|>", Template.LLAMA3: "<|eot_id|>"}


def render_prompt(
    template: Template, messages: Iterable[Message], prefix: str, generation: Generation = PLAIN, opening: str = ""
) -> str:
    """The prompt that ends in the assistant's header and ``prefix``: the model goes on from its last character.

    Nothing inside a message can end it, open another role or forge a tool's answer: special tokens in content are
    broken up. ``opening`` is markup of our own that the answer is made to begin with (``tool_markup.opening``).
    """
    turns = _turns(template, messages, system_text(generation, marked=template is Template.CHATML))
    end = neutralise(prefix) + opening
    if template is Template.CHATML:
        text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
        return f"{text}<|im_start|>assistant\n{end}"
    text = "".join(_llama3_header(role) + content.strip() + "<|eot_id|>" for role, content in turns)
    return f"<|begin_of_text|>{text}{_llama3_header(Role.ASSISTANT)}{end}"


def end_of_turn(template: Template) -> str:
    """The special token with which a model of this form ends its message; always a stop word."""
    return _END_OF_TURN[template]


def neutralise(content: str) -> str:
    """``content`` with a space inside every special token (``<|name|>``, ``<tool_call>``): no tokenizer sees one."""
    return _SPECIAL.sub("< ", content)


def _turns(template: Template, messages: Iterable[Message], system: str) -> Iterator[tuple[str, str]]:
    """Roles and texts of the prompt; ``system`` joins the system's own message, which comes first."""
    answers: list[str] = []
    for message in messages:
        if answers and message.role is not Role.TOOL:
            yield Role.USER, "\n".join(answers)
            answers = []
        role, content = _ROLES.get(message.role, message.role), neutralise(message.content.text)
        if system:
            if role is Role.SYSTEM:
                yield role, f"{content}\n\n{system}"
                system = ""
                continue
            yield Role.SYSTEM, system
            system = ""
        if role is not Role.TOOL:
            yield role, _with_calls(template, content, message.tool_calls)
        elif template is Template.CHATML:
            answers.append(f"<tool_response>\n{content}\n</tool_response>")
        else:
            yield "ipython", content
    if answers:
        yield Role.USER, "\n".join(answers)


def _with_calls(template: Template, content: str, calls: tuple[ToolCall, ...]) -> str:
    if template is Template.CHATML:
        texts = [f"{CALL_OPEN}\n{neutralise(call_body(call))}\n{CALL_CLOSE}" for call in calls]
    else:
        texts = [neutralise(bare_call(call)) for call in calls]
    return "\n".join(filter(None, (content, *texts))) if calls else content


def _llama3_header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"
