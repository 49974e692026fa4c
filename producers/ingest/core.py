"""What the edge decides about a request: which turn it is, or why it is none. Pure."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork

from producers.http.refused import RequestRefused
from producers.ingest.turn_request import TurnRequest
from schemas import errors, ids
from schemas.accounts import Credential
from schemas.errors import invalid_request
from schemas.events import Turn, TurnSubmitted
from schemas.features import lacking, needs_of
from schemas.models import DEFAULT_CATALOGUE, Catalogue, ModelCard
from schemas.plans import DEFAULT_PLANS, Plan
from schemas.ports import AnswerForm

STAGE: Final = "edge"


class IngestSettings(BaseModel):
    """Limits of the HTTP side of the edge."""

    model_config = ConfigDict(frozen=True)

    models: tuple[ModelCard, ...] = Field(default=DEFAULT_CATALOGUE, min_length=1)
    plans: Mapping[str, Plan] = Field(default=DEFAULT_PLANS, description="Set by `TURNSTREAM_PLANS`, not here.")
    turn_seconds_max: int = Field(default=600, ge=1, description="After this nobody waits for an answer.")
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="Networks whose `X-Forwarded-For` is believed, such as `10.0.0.0/8`."
    )
    body_bytes_max: int = Field(default=512 * 1024, ge=1, description="Leaves room for history in a record of 1 MB.")
    body_seconds_max: float = Field(default=10, gt=0, description="From the first to the last byte of a body.")
    messages_max: int = Field(default=2048, ge=1, description="Messages of a stateless request.")
    streams_open_max: int = Field(default=20_000, ge=1, description="Turns that this process serves at once.")
    key_cache_seconds: float = Field(default=30, gt=0, description="How long a revoked key may still read.")
    key_cache_entries_max: int = Field(default=10_000, ge=1)
    clock_skew_ms_max: int = Field(default=5_000, ge=0, description="Between the clocks of two edges.")
    claim_evidence_seconds_max: float = Field(
        default=1.0, gt=0, description="A claimed turn of which the log knows nothing for so long is submitted again."
    )
    claim_tries_max: int = Field(default=4, ge=1, description="Takings of a claim whose turn ended without an answer.")
    clearance_seconds_max: float = Field(
        default=5.0, ge=0, description="A turn of that age may still be on its way through the stages."
    )
    clearance_poll_seconds: float = Field(default=0.1, gt=0)
    queue_seconds_max: float = Field(
        default=10.0, gt=0, description="Expected wait for a GPU beyond which new turns are refused."
    )
    queue_turns_min: int = Field(default=16, ge=1, description="As many may always wait, whatever is expected.")
    queue_memory_seconds: float = Field(
        default=10.0, gt=0, description="Time with waiting turns over which the rate of starts is taken."
    )


class Arrival(NamedTuple):
    """When a request came, in Unix milliseconds, and how its turn is called.

    ``conversation_id`` is for a turn that starts a conversation; ``tokens_from`` lies before every record of the turn;
    ``origin``: a keyed hash of where it came from (``producers.http.origins``).
    """

    now_ms: int
    turn_id: str
    conversation_id: str
    tokens_from: int
    origin: str | None = None


class Submission(NamedTuple):
    """A turn ready for the log, and the form in which its client wants the answer."""

    event: TurnSubmitted
    form: AnswerForm


def accept(
    request: TurnRequest, credential: Credential, arrival: Arrival, settings: IngestSettings, catalogue: Catalogue
) -> Submission:
    """The turn that ``request`` becomes: the same for the same request and names, but for its deadline.

    ``catalogue`` is that of the models in ``settings``. Raises RequestRefused (400 or 404).
    """
    card = find_model(request.model, catalogue)
    if request.conversation_id is not None and not ids.is_conversation_id(request.conversation_id):
        raise RequestRefused(errors.conversation_not_found())
    _check_messages(request, ids.MESSAGES_PER_TURN_MAX - 1 if request.stored else settings.messages_max)
    _check_output(request, card)
    turn = Turn(
        turn_id=arrival.turn_id,
        conversation_id=request.conversation_id or arrival.conversation_id,
        starts_conversation=request.conversation_id is None,
        stored=request.stored,
        model=request.model,
        max_tokens=request.max_tokens,
        sampling=request.sampling,
        generation=request.generation,
        submitted_at_ms=ids.turn_time_ms(arrival.turn_id),
        deadline_ms=arrival.now_ms + settings.turn_seconds_max * 1000,
        tokens_from=arrival.tokens_from,
        end_user=request.end_user,
        origin=arrival.origin,
        api=request.api,
        request=request.shown,
        instructions=request.instructions,
        parent_seq=request.parent_seq,
        answers_seq=request.answers_seq,
        wants_answer=request.wants_answer,
        concurrent=request.concurrent,
    )
    _check_features(turn, card)
    return Submission(
        event=TurnSubmitted(turn=turn, credential=credential, input=request.messages),
        form=AnswerForm(stream=request.stream, include_usage=request.include_usage, background=request.background),
    )


def find_model(model: str, catalogue: Catalogue) -> ModelCard | None:
    """The card of ``model``, by id or alias; None for ``auto``, of which auth decides. Raises RequestRefused (404)."""
    if not catalogue.knows(model):
        raise RequestRefused(errors.model_not_found(model))
    return catalogue.names.get(model)


def _check_features(turn: Turn, card: ModelCard | None) -> None:
    lack = None if card is None else lacking(card, needs_of(turn))
    if lack is not None:
        raise RequestRefused(errors.unsupported_by_model(lack.param, turn.model))


def _check_messages(request: TurnRequest, messages_max: int) -> None:
    if len(request.messages) > messages_max:
        param = request.messages_param
        raise RequestRefused(
            invalid_request(f"'{param}' may hold at most {messages_max} messages here.", param, "invalid_value")
        )


def _check_output(request: TurnRequest, card: ModelCard | None) -> None:
    if card is not None and request.max_tokens is not None and request.max_tokens > card.output_tokens_max:
        param = request.output_param
        raise RequestRefused(
            invalid_request(
                f"'{param}' is too large: this model writes at most {card.output_tokens_max} completion tokens.",
                param,
                "invalid_value",
            )
        )
