"""What a client asks for, in no API's own terms: every API turns its requests into this."""

from pydantic import BaseModel, ConfigDict

from schemas.content import Content
from schemas.events import CHAT, Api
from schemas.generation import PLAIN, Generation, Sampling
from schemas.messages import Message


class TurnRequest(BaseModel):
    """One turn as its client wants it. Equal requests are repetitions of each other.

    ``output_param`` is what the API calls ``max_tokens``; ``shown`` is what it shows of the request again, as JSON.
    ``background``: the response does not wait for the answer. The other fields are those of ``schemas.events.Turn``.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    api: Api = CHAT
    model: str
    messages: tuple[Message, ...]
    instructions: Content | None = None
    max_tokens: int | None = None
    output_param: str = "max_completion_tokens"
    messages_param: str = "messages"
    sampling: Sampling = Sampling()
    generation: Generation = PLAIN
    stored: bool = False
    conversation_id: str | None = None
    parent_seq: int | None = None
    answers_seq: int | None = None
    wants_answer: bool = True
    concurrent: bool = False
    end_user: str | None = None
    shown: Content | None = None
    stream: bool = False
    include_usage: bool = False
    background: bool = False
