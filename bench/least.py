"""The least of some rounds: what others on the machine have disturbed the least."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import uvloop


def least_of_rounds(
    rounds: int, sides: Mapping[str, Callable[[], Coroutine[Any, Any, Mapping[str, float]]]]
) -> dict[str, dict[str, float]]:
    """Measure each side in turn, ``rounds`` times, each on an event loop of its own: the least of each figure."""
    least: dict[str, dict[str, float]] = {name: {} for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(measure())
            least[name] = {figure: min(least[name].get(figure, value), value) for figure, value in found.items()}
    return {name: {figure: round(value, 2) for figure, value in row.items()} for name, row in least.items()}
