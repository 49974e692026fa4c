"""The agents behind abuse signals: what counts for or against a user, brought to where it is counted.

Usage is keyed by user, so turns are counted where they are read. Verdicts are keyed by turn and keys of an address by
nothing: both go over ``abuse.evidence.v1``, whose key is what they are about. That topic has as many partitions as
``usage.events.v1``, so a user's evidence and usage meet in one worker and in one partition of the table.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog

from schemas import headers
from schemas.abuse import AbuseEvidence, AbuseSignalled
from schemas.events import Decision, ModerationDecided, UsageRecorded
from schemas.ports import Metrics
from schemas.serde import encode, event_headers
from schemas.topics import ABUSE_EVIDENCE, ABUSE_SIGNALS, MODERATION_DECISIONS
from stream_processors.windows import crowds, ladder
from stream_processors.windows.core import WindowsSettings, joined
from stream_processors.windows.faust_records import live_events, marks_of, raw_topic, send
from stream_processors.windows.idle_keys import IdleKeys
from stream_processors.windows.ladder import Standing

USERS_TABLE: Final = "abuse_users"
ORIGINS_TABLE: Final = "abuse_origins"

_log: Final = structlog.get_logger(__name__)


class EvidenceAgents:
    """Agents of one app, with their tables."""

    def __init__(
        self, app: Any, make_table: Callable[[str, str], Any], settings: WindowsSettings, metrics: Metrics
    ) -> None:
        """``make_table`` takes a name and a summary; without ``settings.abuse.enabled`` there are no tables."""
        self._settings = settings.abuse
        self._metrics = metrics
        self._idle_ms = settings.idle_minutes_max * 60_000
        self._idle_users, self._idle_origins = IdleKeys(self._idle_ms), IdleKeys(self._idle_ms)
        self._noted = crowds.Noted(self._settings.origin_note_seconds * 1_000, self._settings.origins_noted_max)
        self._signalling = asyncio.Lock()
        if not self._settings.enabled:
            return
        self._users = make_table(USERS_TABLE, "where each user stands, and why")
        self._origins = make_table(ORIGINS_TABLE, "keys by the address that used them")
        self._evidence, self._signals = raw_topic(app, ABUSE_EVIDENCE.name), raw_topic(app, ABUSE_SIGNALS.name)
        self._evidence_dlq = raw_topic(app, ABUSE_EVIDENCE.dlq)
        self._verdicts_dlq = raw_topic(app, MODERATION_DECISIONS.dlq)

    async def see_usage(self, event: UsageRecorded, message: Any) -> None:
        """Count a turn of its user, and tell which key was used at which address."""
        if event.plan in self._settings.plans_exempt:
            return
        await self._tell_origin(event, message)
        key = joined(event.tenant_id, event.user_id)
        at_ms = event.recorded_at_ms
        self._put_user(key, message, ladder.see_turn(self._user(key), event.turn_id, at_ms, self._settings))
        await self._signal(key, event.tenant_id, event.user_id, message)

    async def verdicts(self, stream: Any) -> None:
        """Pass on the inputs that moderation blocked, by their user."""
        verdict: ModerationDecided
        async for verdict, message in live_events(stream, MODERATION_DECISIONS, self._verdicts_dlq):
            if verdict.decision is not Decision.BLOCKED_INPUT:
                continue
            blocked = AbuseEvidence(
                kind="blocked_input",
                tenant_id=verdict.tenant_id,
                user_id=verdict.user_id,
                turn_id=verdict.turn_id,
                seen_at_ms=verdict.decided_at_ms,
            )
            await self._pass_on(blocked, message)

    async def weigh(self, stream: Any) -> None:
        """Count evidence in the table of what it is about."""
        evidence: AbuseEvidence
        async for evidence, message in live_events(stream, ABUSE_EVIDENCE, self._evidence_dlq):
            if evidence.kind == "key_seen":
                await self._see_key(evidence, message)
                continue
            key = joined(evidence.tenant_id, evidence.user_id)
            self._put_user(key, message, self._weighed(self._user(key), evidence))
            await self._signal(key, evidence.tenant_id, evidence.user_id, message)

    def _weighed(self, standing: Standing, evidence: AbuseEvidence) -> Standing:
        match evidence.kind:
            case "lifted":
                return ladder.lift(standing, evidence.seen_at_ms)
            case "many_keys":
                return ladder.see_keys(standing, evidence.keys, evidence.seen_at_ms, self._settings)
        return ladder.see_blocked(standing, evidence.turn_id or "", evidence.seen_at_ms, self._settings)

    async def _tell_origin(self, event: UsageRecorded, message: Any) -> None:
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
        await self._pass_on(seen, message)
        self._noted.note(origin, event.key_id, at_ms)

    async def _see_key(self, evidence: AbuseEvidence, message: Any) -> None:
        origin, at_ms = evidence.subject_id, evidence.seen_at_ms
        crowd = crowds.see_key(self._origins[origin], evidence.key_id or "", at_ms, self._settings)
        self._origins[origin] = crowd
        self._idle_origins.use(message.partition, origin, at_ms)
        for idle in self._idle_origins.take_idle(message.partition, at_ms):
            if crowds.newest_ms(self._origins[idle]) < at_ms - self._idle_ms:
                self._origins.pop(idle, None)
        least = self._settings.many_keys_min
        if least is not None and len(crowd) >= least:
            many = evidence.model_copy(update={"kind": "many_keys", "keys": len(crowd)})
            await self._pass_on(many, message)

    async def _pass_on(self, evidence: AbuseEvidence, message: Any) -> None:
        marks = event_headers(ABUSE_EVIDENCE, evidence.turn_id, _trace(message))
        await send(self._evidence, evidence.subject_id.encode(), encode(evidence), marks)

    def _user(self, key: str) -> Standing:
        found: Standing | None = self._users.get(key)
        return found or ladder.new_standing()

    def _put_user(self, key: str, message: Any, standing: Standing) -> None:
        """Faust lets a table change only while it handles a record of the key's partition."""
        self._users[key] = standing
        at_ms = standing["newest"]
        self._idle_users.use(message.partition, key, at_ms)
        for idle in self._idle_users.take_idle(message.partition, at_ms):
            known = self._user(idle)
            if max(known["newest"], *known["until"]) < at_ms - self._idle_ms:
                self._users.pop(idle, None)

    async def _signal(self, key: str, tenant_id: str, user_id: str, message: Any) -> None:
        """Give the signal that is due. It is noted as given once the broker has it: a crash before gives it again."""
        if ladder.due(self._user(key), tenant_id, user_id, self._settings) is None:
            return
        # Two agents may come here for one user; the newer signal must be the later record.
        async with self._signalling:
            signal = ladder.due(self._user(key), tenant_id, user_id, self._settings)
            if signal is None:
                return
            marks = event_headers(ABUSE_SIGNALS, None, _trace(message))
            await send(self._signals, joined(tenant_id, user_id).encode(), encode(signal), marks)
            # What was counted meanwhile stays.
            self._users[key] = ladder.told(self._user(key), signal)
        self._note(signal)

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


def _trace(message: Any) -> str | None:
    return headers.header(marks_of(message), headers.TRACEPARENT)
