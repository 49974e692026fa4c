"""The options with which the ``dlq`` commands say which dead letters they mean."""

from collections.abc import Mapping
from typing import Annotated

import typer
from pydantic import ValidationError

from producers.redrive.letters import Place, parse_letter_place
from producers.redrive.states import LetterState
from producers.replay.selection import Selection
from producers.replay.times import parse_time_ms
from schemas.ids import parse_turn_id
from schemas.topics import BY_NAME, DLQ_SUFFIX, Topic
from turnstream.clocks import now_ms
from turnstream.commands.exits import Exit, fail
from turnstream.dead_letters.reading import LETTER_TOPICS, Choose, LetterFilter
from turnstream.validation_words import own_words

Places = Annotated[list[str] | None, typer.Argument(help="Letters by `<topic>.dlq/<partition>/<offset>`.")]
TopicName = Annotated[str | None, typer.Option("--topic", help="From this topic, such as chat.turns.submitted.v1.")]
Since = Annotated[str | None, typer.Option("--since", help="Buried since: `2h`, or 2026-01-31T14:00 (UTC).")]
Until = Annotated[str | None, typer.Option("--until", help="Buried before that time.")]
Cause = Annotated[str | None, typer.Option("--cause", help="With this text in the cause.")]
Stage = Annotated[str | None, typer.Option("--stage", help="Buried by this stage.")]
TurnId = Annotated[str | None, typer.Option("--turn", help="Of this turn, with or without `chatcmpl-`.")]
Conversation = Annotated[str | None, typer.Option("--conversation", help="Of this conversation.")]
User = Annotated[str | None, typer.Option("--user", help="Of this user.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Of this tenant.")]
Where = Annotated[str | None, typer.Option("--where", help="A filter, as in docs/replay.md: turn.stored == true")]
Rate = Annotated[float | None, typer.Option("--rate", min=0.001, help="Letters a second, at most.")]
State = Annotated[LetterState | None, typer.Option("--state", help="In this state.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object per line.")]
Execute = Annotated[bool, typer.Option("--execute", help="Do it; else only what would be done is shown.")]


def letter_filter(
    *,
    places: list[str] | None = None,
    topic: str | None = None,
    since: str | None = None,
    until: str | None = None,
    cause: str | None = None,
    stage: str | None = None,
    turn: str | None = None,
    state: LetterState | None = None,
    conversation: str | None = None,
    user: str | None = None,
    tenant: str | None = None,
    where: str | None = None,
) -> LetterFilter:
    """The letters that the options mean. Ends the command for an option that means none."""
    try:
        now = now_ms()
        named = frozenset(parse_letter_place(place) for place in places or ())
        topics = _topics(topic, named)
        return LetterFilter(
            topics=topics,
            since_ms=0 if since is None else parse_time_ms(since, now),
            until_ms=None if until is None else parse_time_ms(until, now),
            cause=cause,
            stage=stage,
            turn_id=None if turn is None else parse_turn_id(turn),
            states=frozenset(LetterState) if state is None else frozenset((state,)),
            places=named,
            chosen=_choices(topics, {"conversation": conversation, "user": user, "tenant": tenant, "where": where}),
        )
    except ValidationError as error:
        fail(own_words(error.errors(include_url=False)[0]["msg"]), Exit.BAD_INPUT)
    except ValueError as error:
        fail(str(error), Exit.BAD_INPUT)


def _choices(topics: tuple[Topic, ...], conditions: Mapping[str, str | None]) -> Mapping[str, Choose]:
    """By the topic of the letters, what the conditions ask of a record. Raises ValueError."""
    given = {name: value for name, value in conditions.items() if value is not None}
    if not given:
        return {}
    if "where" in given and len(topics) > 1:
        raise ValueError("--where is about the fields of one topic: name it with --topic")
    return {topic.dlq: Selection.model_validate({"topic": topic.dlq, **given}).matcher() for topic in topics}


def _topics(name: str | None, places: frozenset[Place]) -> tuple[Topic, ...]:
    if name is not None:
        topic = BY_NAME.get(name.removesuffix(DLQ_SUFFIX))
        if topic is None or not topic.dead_letters:
            raise ValueError(
                f"no such topic has dead letters; there are {', '.join(one.name for one in LETTER_TOPICS)}"
            )
        return (topic,)
    if places:
        return tuple(topic for topic in LETTER_TOPICS if topic.dlq in {place.topic for place in places})
    return LETTER_TOPICS
