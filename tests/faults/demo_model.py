"""What the demonstration model answers to a prompt: asked of the model's own file, which is pure."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final

_FILE: Final = Path(__file__).parents[2] / "docker" / "triton" / "models" / "ensemble" / "1" / "demo_answer.py"
_NAME: Final = "demo_answer_of_the_faults"
_TOKENS_MAX: Final = 100_000


@cache
def expected_answer(prompt: str) -> str:
    """The whole answer to ``prompt``, if it is the only message, or if its directive fixes the number of tokens."""
    model = _model()
    plan = model.plan_answer(model.Conversation((("user", prompt),)), _TOKENS_MAX)
    return "".join(plan.tokens)


@cache
def _model() -> ModuleType:
    spec = importlib.util.spec_from_file_location(_NAME, _FILE)
    if spec is None or spec.loader is None:
        raise ImportError(f"{_FILE.name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while they are made.
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
    return module
