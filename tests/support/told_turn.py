"""One turn as its records, told with the golden examples."""

from dataclasses import dataclass, field
from pathlib import Path

from schemas import headers, ids, serde, topics
from schemas.content import Content
from schemas.event import Event
from schemas.ports import Record
from schemas.tokens import AttemptStarted, Delta
from schemas.topics import BY_NAME
from turnstream.contract_docs.example_files import EXAMPLES, topic_examples
from turnstream.trace.report import TurnReport, build_report

FOLDER = Path(__file__).parents[2] / EXAMPLES
TURN = "01m7q5ffcg002gg28a1c60t3gf"
T0 = ids.turn_time_ms(TURN)
PRIVATE = "never to be shown"


def example(topic: str, case: str) -> Event:
    found = {each.case: each.value for each in topic_examples(FOLDER, BY_NAME[topic])}
    event: Event = serde.decode(BY_NAME[topic], found[case])
    return event


@dataclass
class Log:
    """The turn's records, each a few milliseconds after the one before."""

    records: list[Record] = field(default_factory=list)
    at_ms: int = T0

    def add(self, topic: str, value: Event | bytes, after_ms: int = 10, extra: headers.Headers = ()) -> None:
        self.at_ms += after_ms
        raw = value if isinstance(value, bytes) else serde.encode(value)
        made = headers.make_headers(((headers.TURN, TURN),)) + extra
        self.records.append(Record(topic, 5, len(self.records), b"k", raw, made, self.at_ms))

    def delta(self, seq: int, attempt: int, owner: str, text: str = PRIVATE) -> None:
        content = Content(text)
        delta = Delta(turn_id=TURN, attempt=attempt, owner=owner, seq=seq, content=content, tokens=2)
        self.add(topics.TOKENS.name, delta, after_ms=20)

    def way_to_the_gpu(self) -> None:
        self.add("chat.turns.submitted.v1", example("chat.turns.submitted.v1", "continues_conversation"), after_ms=1)
        self.add("chat.turns.authorized.v1", example("chat.turns.authorized.v1", "stored"), after_ms=3)
        self.add("chat.turns.admitted.v1", example("chat.turns.admitted.v1", "within_quota"), after_ms=4)
        self.add("chat.turns.prompted.v1", example("chat.turns.prompted.v1", "with_history"), after_ms=5)
        self.add("moderation.decisions.v1", example("moderation.decisions.v1", "allowed"), after_ms=6)
        self.add("chat.tokens.v1", example("chat.tokens.v1", "cleared_stored"), after_ms=0)
        self.add("inference.requests.fast.v1", example("inference.requests.fast.v1", "with_history"), after_ms=0)

    def report(self) -> TurnReport:
        report = build_report(TURN, self.records)
        assert report is not None
        return report


def fence(attempt: int, owner: str) -> AttemptStarted:
    return AttemptStarted(turn_id=TURN, attempt=attempt, owner=owner)


def taken_over_turn() -> Log:
    """An answer whose first owner died after two deltas, and went on as a zombie."""
    log = Log()
    log.way_to_the_gpu()
    log.add("chat.tokens.v1", fence(1, "a"), after_ms=7)
    log.delta(0, 1, "a")
    log.delta(1, 1, "a")
    log.add("chat.tokens.v1", fence(2, "inference-7c9f-1"))
    log.delta(2, 1, "a")
    for seq in (2, 3, 4):
        log.delta(seq, 2, "inference-7c9f-1")
    log.add("chat.tokens.v1", example("chat.tokens.v1", "finished_stop"))
    log.add("usage.events.v1", example("usage.events.v1", "finished"), after_ms=0)
    log.add("chat.tokens.v1", example("chat.tokens.v1", "persisted"), after_ms=9)
    return log
