"""What a shadow run is, from its options to its record and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from producers.replay.checkpoint import RunRecord
from schemas.shadow import ShadowBegan
from turnstream.settings import Settings
from turnstream.shadow.changes import Changes, Reroute
from turnstream.shadow.pipeline import STAGES, rows_between
from turnstream.wiring.replay import STAGE_SOURCES

_CHANGE: Final = "change."
_UNTIL: Final = "until_stage"
_IN_FLIGHT: Final = "in_flight"


@dataclass(frozen=True, slots=True)
class ShadowPlan:
    """``settings`` are those of the run, with its changes."""

    began: ShadowBegan
    settings: Settings
    route: Reroute
    in_flight_max: int


def options_of(settings: Settings, changes: Changes, until_stage: str, in_flight_max: int) -> Mapping[str, str]:
    """What the record of a run keeps, so that a resumed run is the same. Reads the files. Raises ValueError."""
    changes.route(settings)
    given = changes.model_dump(mode="json", exclude_none=True)
    return {
        _UNTIL: until_stage,
        _IN_FLIGHT: str(in_flight_max),
        **{f"{_CHANGE}{name}": str(value) for name, value in given.items()},
        **changes.words(changes.applied(settings)),
    }


def plan_of(settings: Settings, record: RunRecord) -> ShadowPlan:
    """The run of ``record``. Raises ValueError when its files are not what they were when it began."""
    told = record.options
    given = {name.removeprefix(_CHANGE): value for name, value in told.items() if name.startswith(_CHANGE)}
    changes = Changes.model_validate(given)
    changed = changes.applied(settings)
    words = changes.words(changed)
    for name, value in words.items():
        if told.get(name) != value:
            raise ValueError(f"the file of --{name} has changed since the run began: begin a new one")
    topic = record.plan.selection.topic
    began = ShadowBegan(
        run_id=record.run_id,
        source=(topic,),
        from_stage=stage_of(topic),
        until_stage=told[_UNTIL],
        changes=words,
        began_at_ms=record.started_ms,
    )
    rows_between(began.from_stage, began.until_stage)
    return ShadowPlan(began, changed, changes.route(changed), int(told[_IN_FLIGHT]))


def stage_of(topic: str) -> str:
    """The stage with which a run over ``topic`` begins. Raises ValueError for a topic that none of them reads."""
    sources = {source: stage.partition(".")[0] for stage, source in STAGE_SOURCES.items()}
    found = sources.get(topic)
    if found not in STAGES:
        there = [source for source, stage in sources.items() if stage in STAGES]
        raise ValueError(f"a shadow run reads one of {', '.join(there)}, not {topic}")
    return found
