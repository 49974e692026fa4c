"""How many tokens a text will be, before a model has seen it."""

from typing import Final, Protocol

from schemas.messages import Message

BYTES_PER_TOKEN: Final = 4
# What a chat template puts around each message (role markers and separators), rounded up from OpenAI's guidance.
MESSAGE_OVERHEAD_TOKENS: Final = 4
# The template's opening of the answer.
ANSWER_OVERHEAD_TOKENS: Final = 3


class TokenCounter(Protocol):
    """Counts the tokens of a text, exactly or as an estimate. Pure and cheap: it runs for every message."""

    def __call__(self, text: str) -> int:
        """Tokens of ``text``, at least 0."""
        ...


def estimate_tokens(text: str) -> int:
    """About one token per four UTF-8 bytes, rounded up.

    The common rule for English; bytes instead of characters bring scripts with fewer characters per token
    (Cyrillic, Chinese, emoji) to the right order of magnitude.
    """
    # An ASCII string knows that it is one, so the common case does not encode.
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size // BYTES_PER_TOKEN)


def message_tokens(message: Message, count: TokenCounter) -> int:
    """Tokens of ``message`` inside a prompt, with what the chat template adds."""
    name = count(message.name) if message.name is not None else 0
    return count(message.content.text) + name + MESSAGE_OVERHEAD_TOKENS
