"""Messages to the one text that a model reads. Pure.

Forms: ChatML (Qwen, OpenHermes and many others) and Llama 3
(https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-3/).
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from schemas.messages import Message, Role


class Template(StrEnum):
    """The chat templates that we can render."""

    CHATML = "chatml"
    LLAMA3 = "llama3"


_SPECIAL: Final = re.compile(r"<\|(?=[^|\s]{1,64}\|>)")
# Both forms know no developer role; its instructions are the system's.
_ROLES: Final = {Role.DEVELOPER: Role.SYSTEM}
_END_OF_TURN: Final = {Template.CHATML: "<|im_end|>", Template.LLAMA3: "<|eot_id|>"}


def render_prompt(template: Template, messages: Iterable[Message], prefix: str) -> str:
    """The prompt that ends in the assistant's header and ``prefix``: the model goes on from its last character.

    Nothing inside a message can end it or open another role: special tokens in content are broken up.
    """
    turns = [(_ROLES.get(message.role, message.role), neutralise(message.content.text)) for message in messages]
    if template is Template.CHATML:
        text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
        return f"{text}<|im_start|>assistant\n{neutralise(prefix)}"
    text = "".join(_llama3_header(role) + content.strip() + "<|eot_id|>" for role, content in turns)
    return f"<|begin_of_text|>{text}{_llama3_header(Role.ASSISTANT)}{neutralise(prefix)}"


def end_of_turn(template: Template) -> str:
    """The special token with which a model of this form ends its message; always a stop word."""
    return _END_OF_TURN[template]


def neutralise(content: str) -> str:
    """``content`` with a space inside every special token (``<|name|>``), so that no tokenizer sees one."""
    return _SPECIAL.sub("< |", content)


def _llama3_header(role: Role) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"
