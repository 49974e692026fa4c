"""Which records of one topic are meant. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from producers.replay.expression import Expression
from producers.replay.fields import check_path
from producers.replay.reading import Reading, topic_of
from schemas.ports import Record

Match = Callable[[Reading], bool]

# Topics whose records tell a decision; for others the turns are looked up on these (``turns``).
_IDENTITIES: Final = ("turn", "conversation", "user", "tenant")


class Selection(BaseModel):
    """All conditions that are given must hold. ``offsets`` are per partition, from the first up to before the second.

    Times are those of the records, in Unix milliseconds: ``since_ms <= time < until_ms``. ``turns`` are the only turns
    meant, as found out on another topic. Raises ValueError for an unknown topic or field and a malformed filter.
    """

    model_config = ConfigDict(frozen=True)

    topic: str
    since_ms: int | None = Field(default=None, ge=0)
    until_ms: int | None = Field(default=None, ge=0)
    offsets: Mapping[int, tuple[int, int]] | None = None
    turn: str | None = None
    conversation: str | None = None
    user: str | None = None
    tenant: str | None = None
    code: str | None = None
    where: str | None = None
    turns: frozenset[str] | None = None

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        topic = topic_of(self.topic)
        if self.where is not None:
            for path in Expression(self.where).paths():
                check_path(topic, path)
        for start, stop in (self.offsets or {}).values():
            if not 0 <= start < stop:
                raise ValueError("offsets go from the first one meant up to, but not including, a higher one")
        if self.since_ms is not None and self.until_ms is not None and self.since_ms >= self.until_ms:
            raise ValueError("the time range is empty: since is not before until")
        return self

    @property
    def narrow(self) -> bool:
        """Whether it means less than the whole topic."""
        return any(getattr(self, name) is not None for name in type(self).model_fields if name != "topic")

    def matcher(self) -> Callable[[Record], bool]:
        """Tells whether a record of the topic is meant; whether its partition and offset are, the plan says."""
        tests = self._tests()

        def matches(record: Record) -> bool:
            if self.since_ms is not None and record.timestamp_ms < self.since_ms:
                return False
            if self.until_ms is not None and record.timestamp_ms >= self.until_ms:
                return False
            reading = Reading(record)
            return all(test(reading) for test in tests)

        return matches

    def _tests(self) -> Sequence[Match]:
        tests = [_is(name, wanted) for name in _IDENTITIES if (wanted := getattr(self, name)) is not None]
        if self.turns is not None:
            turns = self.turns
            tests.append(lambda reading: reading.turn_id in turns)
        if self.code is not None:
            code = self.code
            tests.append(lambda reading: code in reading.codes)
        if self.where is not None:
            expression = Expression(self.where)
            tests.append(lambda reading: expression.matches(reading.scope))
        return tests


def _is(name: str, wanted: str) -> Match:
    return lambda reading: getattr(reading, f"{name}_id") == wanted
