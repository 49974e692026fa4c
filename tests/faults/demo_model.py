"""What the demonstration model answers to a prompt: asked of the model's own file, which is pure."""

from functools import cache
from typing import Final

from turnstream.local_stack.demo_model import load_demo_model

_TOKENS_MAX: Final = 100_000


@cache
def expected_answer(prompt: str) -> str:
    """The whole answer to ``prompt``, if it is the only message, or if its directive fixes the number of tokens."""
    model = load_demo_model()
    plan = model.plan_answer(model.Conversation((("user", prompt),)), _TOKENS_MAX)
    return "".join(plan.tokens)
