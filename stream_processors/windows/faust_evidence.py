"""Abuse signals: what counts for or against a user, brought to where it is counted.

Usage is keyed by user, so turns are counted where they are read. Verdicts are keyed by turn and keys of an address by
nothing: both go over ``abuse.evidence.v1``, whose key is what they are about. That topic has as many partitions as
``usage.events.v1``, so a user's evidence and usage meet in one worker and in one partition of the table.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from schemas.abuse import AbuseEvidence, AbuseSignalled
from schemas.events import Decision, ModerationDecided, UsageRecorded
from schemas.ports import Metrics
from schemas.serde import encode, event_headers
from schemas.topics import ABUSE_EVIDENCE, ABUSE_SIGNALS
from stream_processors.windows import crowds, ladder
from stream_processors.windows.core import WindowsSettings, joined
from stream_processors.windows.faust_records import Taken, Write, trace_of
from stream_processors.windows.idle_keys import IdleKeys
from stream_processors.windows.ladder import Standing

USERS_TABLE: Final = "abuse_users"
ORIGINS_TABLE: Final = "abuse_origins"

_log: Final = structlog.get_logger(__name__)


@dataclass(slots=True)
class _User:
    """A user of whom something was seen in this batch."""

    partition: int
    tenant_id: str
    user_id: str
    standing: Standing
    message: Any


class Evidence:
    """Counts evidence in its tables, by the batch: ``see`` it, write what comes of that, then give ``signals``."""

    def __init__(self, make_table: Callable[[str, str], Any], settings: WindowsSettings, metrics: Metrics) -> None:
        """``make_table`` takes a name and a summary."""
        self._settings = settings.abuse
        self._metrics = metrics
        self._idle_ms = settings.idle_minutes_max * 60_000
        self._idle_users, self._idle_origins = IdleKeys(self._idle_ms), IdleKeys(self._idle_ms)
        self._noted = crowds.Noted(self._settings.origin_note_seconds * 1_000, self._settings.origins_noted_max)
        self._users = make_table(USERS_TABLE, "where each user stands, and why")
        self._origins = make_table(ORIGINS_TABLE, "keys by the address that used them")
        self._seen: dict[str, _User] = {}
        self._passed_on: list[Write] = []

    def see(self, batch: Iterable[Taken]) -> list[Write]:
        """Count a batch; returns the evidence that is counted elsewhere, and the tables' changes."""
        self._seen, self._passed_on = {}, []
        for event, message in batch:
            if isinstance(event, UsageRecorded):
                self._see_usage(event, message)
            elif isinstance(event, ModerationDecided):
                self._see_verdict(event, message)
            elif event.kind == "key_seen":
                self._see_key(event, message)
            else:
                user = self._user(event, message)
                user.standing = self._weighed(user.standing, event)
        for key, user in self._seen.items():
            self._put_user(key, user)
        return [*self._passed_on, *self._users.take_changes(), *self._origins.take_changes()]

    def signals(self) -> dict[str, tuple[AbuseSignalled, Write]]:
        """The signals that are due to those of whom something was seen, by their key in the table."""
        due: dict[str, tuple[AbuseSignalled, Write]] = {}
        for key, user in self._seen.items():
            signal = ladder.due(user.standing, user.tenant_id, user.user_id, self._settings)
            if signal is not None:
                marks = event_headers(ABUSE_SIGNALS, None, trace_of(user.message))
                due[key] = signal, Write(ABUSE_SIGNALS.name, key.encode(), encode(signal), marks)
        return due

    def told(self, signals: dict[str, tuple[AbuseSignalled, Write]]) -> list[Write]:
        """Note signals that the broker has as given: a crash before gives them again. Returns the tables' changes."""
        for key, (signal, _) in signals.items():
            user = self._seen[key]
            self._users.put(user.partition, key, ladder.told(user.standing, signal))
            self._note(signal)
        return list(self._users.take_changes())

    def _see_usage(self, event: UsageRecorded, message: Any) -> None:
        """Count a turn of its user, and tell which key was used at which address."""
        if event.plan in self._settings.plans_exempt:
            return
        self._tell_origin(event, message)
        user = self._user(event, message)
        user.standing = ladder.see_turn(user.standing, event.turn_id, event.recorded_at_ms, self._settings)

    def _see_verdict(self, verdict: ModerationDecided, message: Any) -> None:
        """Pass on the inputs that moderation blocked, by their user."""
        if verdict.decision is not Decision.BLOCKED_INPUT:
            return
        blocked = AbuseEvidence(
            kind="blocked_input",
            tenant_id=verdict.tenant_id,
            user_id=verdict.user_id,
            turn_id=verdict.turn_id,
            seen_at_ms=verdict.decided_at_ms,
        )
        self._pass_on(blocked, message)

    def _weighed(self, standing: Standing, evidence: AbuseEvidence) -> Standing:
        match evidence.kind:
            case "lifted":
                return ladder.lift(standing, evidence.seen_at_ms)
            case "many_keys":
                return ladder.see_keys(standing, evidence.keys, evidence.seen_at_ms, self._settings)
        return ladder.see_blocked(standing, evidence.turn_id or "", evidence.seen_at_ms, self._settings)

    def _tell_origin(self, event: UsageRecorded, message: Any) -> None:
        origin, at_ms = event.origin, event.recorded_at_ms
        if origin is None or not self._noted.is_news(origin, event.key_id, at_ms):
            return
        seen = AbuseEvidence(
            kind="key_seen",
            tenant_id=event.tenant_id,
            user_id=event.user_id,
            turn_id=event.turn_id,
            key_id=event.key_id,
            origin=origin,
            seen_at_ms=at_ms,
        )
        self._pass_on(seen, message)
        # Before it is written: if that fails, the process ends, and a new one has noted nothing.
        self._noted.note(origin, event.key_id, at_ms)

    def _see_key(self, evidence: AbuseEvidence, message: Any) -> None:
        origin, at_ms = evidence.subject_id, evidence.seen_at_ms
        crowd = crowds.see_key(self._origins.known(origin) or {}, evidence.key_id or "", at_ms, self._settings)
        self._origins.put(message.partition, origin, crowd)
        self._idle_origins.use(message.partition, origin, at_ms)
        for idle in self._idle_origins.take_idle(message.partition, at_ms):
            if crowds.newest_ms(self._origins.known(idle) or {}) < at_ms - self._idle_ms:
                self._origins.drop(message.partition, idle)
        least = self._settings.many_keys_min
        if least is not None and len(crowd) >= least:
            self._pass_on(evidence.model_copy(update={"kind": "many_keys", "keys": len(crowd)}), message)

    def _pass_on(self, evidence: AbuseEvidence, message: Any) -> None:
        marks = event_headers(ABUSE_EVIDENCE, evidence.turn_id, trace_of(message))
        self._passed_on.append(Write(ABUSE_EVIDENCE.name, evidence.subject_id.encode(), encode(evidence), marks))

    def _user(self, event: UsageRecorded | AbuseEvidence, message: Any) -> _User:
        key = joined(event.tenant_id, event.user_id)
        user = self._seen.get(key)
        if user is None:
            standing = self._users.known(key) or ladder.new_standing()
            user = self._seen[key] = _User(message.partition, event.tenant_id, event.user_id, standing, message)
        user.message = message
        return user

    def _put_user(self, key: str, user: _User) -> None:
        at_ms = user.standing["newest"]
        self._users.put(user.partition, key, user.standing)
        self._idle_users.use(user.partition, key, at_ms)
        for idle in self._idle_users.take_idle(user.partition, at_ms):
            known = self._users.known(idle)
            if known and max(known["newest"], *known["until"]) < at_ms - self._idle_ms:
                self._users.drop(user.partition, idle)

    def _note(self, signal: AbuseSignalled) -> None:
        self._metrics.count("turnstream_abuse_signals_total", level=signal.level.value)
        _log.info(
            "abuse_signalled",
            tenant_id=signal.tenant_id,
            user_id=signal.user_id,
            level=signal.level.value,
            causes=signal.causes,
            until_ms=signal.until_ms,
        )
