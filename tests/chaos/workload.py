"""What the clients do, from the seed alone. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EDGES: Final = ("edge", "edge-2")
TURNS_OF_A_CONVERSATION: Final = (1, 4)


@dataclass(frozen=True)
class TurnPlan:
    """One question and how its client behaves.

    ``conversation`` groups the stored turns of one client, None for a stateless one. ``leave_after_bytes``: of each
    body, hang up and come back; ``twice``: ask both edges at once; ``rival``: ask a second question meanwhile;
    ``cancel_after`` pieces; ``slow``: read with pauses; ``watched``: by a second reader.
    """

    number: int
    client: int
    conversation: int | None
    stream: bool
    tokens: int
    gap_ms: int
    edge: str
    leave_after_bytes: tuple[int, ...] = ()
    twice: bool = False
    rival: bool = False
    cancel_after: int | None = None
    slow: bool = False
    watched: bool = False

    @property
    def prompt(self) -> str:
        """The question; the number makes it unlike any other, and the model counts its answer."""
        return f"[[demo first_ms=20 gap_ms={self.gap_ms} tokens={self.tokens}]] Frage {self.number} \u00fc\U0001f600?"

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return f"turn-{self.number}"


def make_workload(seed: int, turns: int, clients: int) -> Sequence[TurnPlan]:
    """``turns`` plans; a client takes its own in order. The same for the same arguments."""
    dice = random.Random(f"workload {seed} {turns} {clients}")
    left = [0] * clients
    conversations = [0] * clients
    plans: list[TurnPlan] = []
    for number in range(turns):
        client = number % clients
        conversation: int | None = None
        if left[client] or dice.random() < 0.6:
            if not left[client]:
                left[client] = dice.randint(*TURNS_OF_A_CONVERSATION)
                conversations[client] += 1
            left[client] -= 1
            conversation = conversations[client]
        plans.append(_plan(dice, number, client, conversation))
    return plans


def _plan(dice: random.Random, number: int, client: int, conversation: int | None) -> TurnPlan:
    stream = dice.random() < 0.85
    tokens = dice.randint(20, 80)
    return TurnPlan(
        number=number,
        client=client,
        conversation=conversation,
        stream=stream,
        tokens=tokens,
        gap_ms=dice.choice((10, 20, 40)),
        edge=dice.choice(EDGES),
        leave_after_bytes=_leaves(dice) if stream else (),
        twice=dice.random() < 0.1,
        rival=stream and conversation is not None and dice.random() < 0.1,
        cancel_after=dice.randint(1, 15) if stream and dice.random() < 0.06 else None,
        slow=stream and dice.random() < 0.1,
        watched=stream and dice.random() < 0.1,
    )


def _leaves(dice: random.Random) -> tuple[int, ...]:
    """Offsets of any kind: before the first byte, inside an event or a character, near the end."""
    if dice.random() > 0.25:
        return ()
    return tuple(dice.choice((0, 1, dice.randint(2, 300), dice.randint(300, 8_000))) for _ in range(dice.randint(1, 3)))
