"""What the edge decides about a request: which turn it is, or why it is none. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from producers.chat_completions.parameters import HARMLESS_MESSAGE_VALUES, HARMLESS_VALUES, refuse_extra
from producers.chat_completions.request import ChatRequest, explain
from producers.http.api_keys import bearer_token, key_hash, parse_api_key
from producers.http.refused import RequestRefused
from schemas import errors, ids, models
from schemas.accounts import ApiKeyCredential, Credential
from schemas.errors import Refusal, invalid_request
from schemas.events import Turn, TurnSubmitted
from schemas.generation import Sampling
from schemas.models import DEFAULT_CATALOGUE, ModelCard

STAGE: Final = "edge"


class IngestSettings(BaseModel):
    """Limits of the HTTP side of the edge."""

    model_config = ConfigDict(frozen=True)

    models: tuple[ModelCard, ...] = Field(default=DEFAULT_CATALOGUE, min_length=1)
    turn_seconds_max: int = Field(default=600, ge=1, description="After this nobody waits for an answer.")
    body_bytes_max: int = Field(default=512 * 1024, ge=1, description="Leaves room for history in a record of 1 MB.")
    body_seconds_max: float = Field(default=10, gt=0, description="From the first to the last byte of a body.")
    messages_max: int = Field(default=2048, ge=1, description="Messages of a stateless request.")
    streams_open_max: int = Field(default=1000, ge=1, description="Turns that this process serves at once.")
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


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a request came, in Unix milliseconds, and how its turn is called.

    ``conversation_id`` is for a turn that starts a conversation; ``tokens_from`` lies before every record of the turn.
    """

    now_ms: int
    turn_id: str
    conversation_id: str
    tokens_from: int


@dataclass(frozen=True, slots=True)
class Submission:
    """A turn ready for the log, and the form in which its client wants the answer."""

    event: TurnSubmitted
    stream: bool
    include_usage: bool


def authenticate(authorization: Sequence[str], pepper: bytes) -> Credential:
    """The credential in the ``Authorization`` headers of a request. Raises RequestRefused (401).

    Well-formed is all it says: whether the key exists is the auth stage's to decide.
    """
    if not authorization:
        raise RequestRefused(_missing_api_key())
    # Two headers could be read as one user here and as another by a proxy.
    token = bearer_token(authorization[0]) if len(authorization) == 1 else None
    key = parse_api_key(token or "")
    if key is None:
        raise RequestRefused(errors.invalid_api_key())
    return ApiKeyCredential(key_hash=key_hash(key, pepper))


def parse_request(body: bytes) -> ChatRequest:
    """The request in ``body``, free of parameters that would have to be ignored. Raises RequestRefused (400)."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise RequestRefused(explain(error)) from None
    _refuse_if(refuse_extra(request.model_extra or {}, HARMLESS_VALUES))
    for index, message in enumerate(request.messages):
        _refuse_if(refuse_extra(message.model_extra or {}, HARMLESS_MESSAGE_VALUES, f"messages[{index}]."))
    return request


def accept(request: ChatRequest, credential: Credential, arrival: Arrival, settings: IngestSettings) -> Submission:
    """The turn that ``request`` becomes: the same for the same request and names, but for its deadline.

    Raises RequestRefused (400 or 404).
    """
    card = find_model(request.model, models.by_id(settings.models))
    _check_options(request)
    stored = request.conversation_id is not None or bool(request.store)
    _check_messages(request, ids.MESSAGES_PER_TURN_MAX - 1 if stored else settings.messages_max)
    turn = Turn(
        turn_id=arrival.turn_id,
        conversation_id=request.conversation_id or arrival.conversation_id,
        starts_conversation=request.conversation_id is None,
        stored=stored,
        model=request.model,
        max_tokens=_max_tokens(request, card),
        sampling=_sampling(request),
        submitted_at_ms=ids.turn_time_ms(arrival.turn_id),
        deadline_ms=arrival.now_ms + settings.turn_seconds_max * 1000,
        tokens_from=arrival.tokens_from,
        end_user=request.safety_identifier or request.user,
    )
    return Submission(
        event=TurnSubmitted(
            turn=turn, credential=credential, input=tuple(message.message() for message in request.messages)
        ),
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
    )


def find_model(model: str, catalogue: Mapping[str, ModelCard]) -> ModelCard:
    """The card of ``model``. Raises RequestRefused (404)."""
    card = catalogue.get(model)
    if card is None:
        raise RequestRefused(errors.model_not_found(model))
    return card


def _check_options(request: ChatRequest) -> None:
    if request.stream_options is not None and not request.stream:
        raise RequestRefused(
            invalid_request(
                "'stream_options' is only allowed when 'stream' is true.", "stream_options", "invalid_value"
            )
        )
    if request.conversation_id is None:
        return
    if not ids.is_conversation_id(request.conversation_id):
        raise RequestRefused(errors.conversation_not_found())
    if request.store is False:
        raise RequestRefused(
            invalid_request("A turn of a conversation is always stored: omit 'store'.", "store", "invalid_value")
        )


def _check_messages(request: ChatRequest, messages_max: int) -> None:
    if len(request.messages) > messages_max:
        raise RequestRefused(
            invalid_request(f"'messages' may hold at most {messages_max} messages here.", "messages", "invalid_value")
        )


def _max_tokens(request: ChatRequest, card: ModelCard) -> int | None:
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise RequestRefused(
            invalid_request(
                "Set 'max_completion_tokens' or 'max_tokens', not both.", "max_completion_tokens", "invalid_value"
            )
        )
    param = "max_tokens" if request.max_tokens is not None else "max_completion_tokens"
    asked = request.max_tokens if request.max_tokens is not None else request.max_completion_tokens
    if asked is not None and asked > card.output_tokens_max:
        raise RequestRefused(
            invalid_request(
                f"'{param}' is too large: this model writes at most {card.output_tokens_max} completion tokens.",
                param,
                "invalid_value",
            )
        )
    return asked


def _sampling(request: ChatRequest) -> Sampling:
    return Sampling(
        temperature=request.temperature,
        top_p=request.top_p,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        seed=request.seed,
        stop=request.stop,
    )


def _refuse_if(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise RequestRefused(refusal)


def _missing_api_key() -> Refusal:
    refused = errors.invalid_api_key()
    message = "You did not provide an API key. Send it in the header 'Authorization: Bearer YOUR_KEY'."
    return refused.model_copy(update={"error": refused.error.model_copy(update={"message": message})})
