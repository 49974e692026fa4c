"""What an event says, in a few words and without content."""

from schemas import events, tokens
from schemas.errors import Refusal
from schemas.event import Event
from schemas.limits import LimitLedgered, LimitWindow
from schemas.messages import Message
from schemas.operations import OperatorActed


def event_words(event: Event) -> str:
    """One line for an operator: counts, sizes, names and codes; never what anybody wrote."""
    if isinstance(event, events.ModerationDecided):
        return " ".join((event.decision.value, *event.categories))
    if isinstance(event, events.UsageRecorded):
        first = "no token" if event.ttft_ms is None else f"first token {event.ttft_ms} ms"
        return f"{_usage(event.usage)}, {first}, {event.finish_reason.value}"
    if isinstance(event, LimitLedgered):
        return f"{event.entry} {event.tokens} tokens{_no_room(event.refused_by)}"
    if isinstance(event, OperatorActed):
        return f"{event.action} {event.outcome} by {event.actor}{_asked_again(event)}"
    if isinstance(event, events.TurnCancelled):
        return f"stop generating: {event.reason}"
    return _answer_words(event) or _turn_words(event)


def _asked_again(event: OperatorActed) -> str:
    old, new = event.details.get("turn"), event.details.get("new_turn")
    return f": turn {old} is asked again as {new}" if old and new else ""


def _no_room(window: LimitWindow | None) -> str:
    if window is None:
        return ""
    period = f" per {window.period}" if window.period else ""
    return f": no room in {window.scope} {window.kind}{period}, {window.used} of {window.limit}"


def _turn_words(event: Event) -> str:
    match event:
        case events.TurnSubmitted():
            kind = "stored" if event.turn.stored else "stateless"
            return f"{event.turn.model}, {kind}, {_messages(event.input)}"
        case events.TurnAuthorized():
            account = event.account
            return f"{account.tenant_id}/{account.user_id}, plan {account.plan}, pool {event.pool}"
        case events.TurnAdmitted():
            return f"reserved {event.reserved_tokens} tokens, {event.limits.remaining_requests} requests left"
        case events.TurnPrompted() | events.InferenceRequested():
            prompt = event.prompt
            dropped = f", {prompt.dropped_messages} dropped" if prompt.dropped_messages else ""
            return f"{_messages(prompt.messages)}{dropped}, {prompt.prompt_tokens} tokens, at most {prompt.max_tokens}"
        case _:
            return type(event).__name__


def _answer_words(event: Event) -> str | None:
    match event:
        case tokens.Cleared():
            return "cleared"
        case tokens.Refused():
            return f"refused by {event.stage}: {_refusal(event.refusal)}"
        case tokens.AttemptStarted():
            return f"attempt {event.attempt} by {event.owner}"
        case tokens.Delta():
            return f"delta {event.seq}: {_count(event.tokens, 'token')}, {_count(len(event.content.text), 'char')}"
        case tokens.Finished():
            return f"finished: {event.finish_reason.value}, {_usage(event.usage)}"
        case tokens.Failed():
            return f"failed: {_refusal(event.refusal)}"
        case tokens.Cancelled():
            return f"cancelled: {event.reason}"
        case tokens.Persisted():
            return f"persisted as message {event.message_seq}"
        case _:
            return None


def _messages(messages: tuple[Message, ...]) -> str:
    size = sum(len(message.content.text) for message in messages)
    return f"{_count(len(messages), 'message')}, {_count(size, 'char')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _usage(usage: events.Usage) -> str:
    return f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"


def _refusal(refusal: Refusal) -> str:
    return f"{refusal.status} {refusal.error.code or refusal.error.type.value}"
