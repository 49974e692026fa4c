"""Events as the stages before inference would make them, for benchmarks of one part alone."""

import os
import time
from typing import Final

from schemas.accounts import Account
from schemas.content import Content
from schemas.events import InferenceRequested, Prompt, Turn
from schemas.ids import new_conversation_id, new_turn_id
from schemas.messages import Message, Role

MODEL: Final = "turnstream-fast"
POOL: Final = "fast"
DEADLINE_S: Final = 600
ACCOUNT: Final = Account(tenant_id="bench", user_id="bench", key_id="bench", plan="enterprise")


def new_turn(partition: int = 0, *, stored: bool = False) -> Turn:
    """A turn of a new conversation whose answer lies in ``partition``."""
    now_ms = time.time_ns() // 1_000_000
    return Turn(
        turn_id=new_turn_id(now_ms, partition, os.urandom(8)),
        conversation_id=new_conversation_id(now_ms, os.urandom(10)),
        starts_conversation=True,
        stored=stored,
        model=MODEL,
        submitted_at_ms=now_ms,
        deadline_ms=now_ms + 1000 * DEADLINE_S,
        tokens_from=0,
    )


def user_message(content: str) -> Message:
    """What the user says."""
    return Message(role=Role.USER, content=Content(content))


def inference_request(content: str, partition: int = 0) -> InferenceRequested:
    """The request that the moderation stage would let pass."""
    return InferenceRequested(
        turn=new_turn(partition),
        account=ACCOUNT,
        pool=POOL,
        served_model=MODEL,
        message_seq=0,
        prompt=Prompt(messages=(user_message(content),), input_count=1, prompt_tokens=20, max_tokens=2_000),
    )
