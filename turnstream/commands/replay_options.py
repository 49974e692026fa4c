"""The options that every mode of ``turnstream replay`` has: what is meant, how fast, whether to act."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, Final, get_type_hints

import typer
from pydantic import ValidationError

from producers.replay.selection import Selection
from producers.replay.times import parse_offsets, parse_time_ms
from schemas.ids import parse_turn_id
from turnstream.commands.exits import Exit, fail
from turnstream.validation_words import own_words
from turnstream.wiring.replay import source_of

_TIME: Final = "2026-11-21T14:00:00Z, or 2h for two hours ago."


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """As they were given on the command line."""

    topic: Annotated[str | None, typer.Option("--topic", help="The topic; its dead letters end in .dlq.")] = None
    from_stage: Annotated[
        str | None, typer.Option("--from-stage", help="The topic which this stage reads, such as moderation.")
    ] = None
    since: Annotated[str | None, typer.Option("--since", help=f"Records from this time on: {_TIME}")] = None
    until: Annotated[str | None, typer.Option("--until", help=f"Records before this time: {_TIME}")] = None
    offsets: Annotated[
        list[str], typer.Option("--offsets", help="PARTITION:FIRST-LAST; may be given once per partition.")
    ] = field(default_factory=list)
    turn: Annotated[str | None, typer.Option("--turn", help="The turn, with or without chatcmpl-.")] = None
    conversation: Annotated[str | None, typer.Option("--conversation", help="The conversation.")] = None
    user: Annotated[str | None, typer.Option("--user", help="The user's id.")] = None
    tenant: Annotated[str | None, typer.Option("--tenant", help="The tenant.")] = None
    code: Annotated[
        str | None, typer.Option("--code", help="A decision: blocked_input, rate_limit_exceeded, failed, stop ...")
    ] = None
    where: Annotated[
        str | None, typer.Option("--where", help='A filter: turn.model == "turnstream-fast" and turn.stored')
    ] = None
    rate: Annotated[float | None, typer.Option("--rate", min=0.001, help="Records a second, at most.")] = None
    execute: Annotated[bool, typer.Option("--execute", help="Act. Without it the plan is shown.")] = False
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN_ID", help="Go on with a run that was cut off.")
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False

    def selection(self, now_ms: int, default_topic: str | None = None) -> Selection:
        """What is meant, relative to ``now_ms``. Ends the command for what cannot be meant."""
        try:
            return self._selection(now_ms, default_topic)
        except ValidationError as error:
            fail(own_words(error.errors(include_url=False)[0]["msg"]), Exit.BAD_INPUT)
        except ValueError as error:
            fail(str(error), Exit.BAD_INPUT)

    def _selection(self, now_ms: int, default_topic: str | None) -> Selection:
        topic = self.topic or (source_of(self.from_stage) if self.from_stage else default_topic)
        if topic is None:
            raise ValueError("say which records: --topic or --from-stage")
        if self.topic and self.from_stage and source_of(self.from_stage) != self.topic:
            raise ValueError(f"{self.from_stage} does not read {self.topic}: give one of --topic and --from-stage")
        return Selection(
            topic=topic,
            since_ms=None if self.since is None else parse_time_ms(self.since, now_ms),
            until_ms=None if self.until is None else parse_time_ms(self.until, now_ms),
            offsets=parse_offsets(self.offsets) or None,
            turn=None if self.turn is None else parse_turn_id(self.turn),
            conversation=self.conversation,
            user=self.user,
            tenant=self.tenant,
            code=self.code,
            where=self.where,
        )

    def selects(self) -> bool:
        """Whether any option says which records are meant."""
        names = ("topic", "from_stage", "since", "until", "turn", "conversation", "user", "tenant", "code", "where")
        return bool(self.offsets) or any(getattr(self, name) is not None for name in names)


def takes_selection(command: Callable[..., None]) -> Callable[..., None]:
    """``command``, which takes ``ReplayOptions`` first, with their fields as options before those it declares."""
    hints = get_type_hints(ReplayOptions, include_extras=True)
    names = [each.name for each in fields(ReplayOptions)]
    shared = [
        inspect.Parameter(
            each.name, inspect.Parameter.KEYWORD_ONLY, default=_default(each), annotation=hints[each.name]
        )
        for each in fields(ReplayOptions)
    ]
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [*shared, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own)]

    def run(**values: Any) -> None:
        options = ReplayOptions(**{name: values.pop(name) for name in names})
        command(options, **values)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _default(each: Any) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()
