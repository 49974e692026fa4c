"""The tensors of one generation, as tensorrtllm_backend's ``ensemble`` and ``tensorrt_llm_bls`` name them. Pure.

https://github.com/NVIDIA/TensorRT-LLM, triton_backend/all_models/inflight_batcher_llm; shapes are [batch, n] with a
batch of one. Text is BYTES: a little-endian 32-bit length before each element (KServe v2, raw representation).
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from tritonclient.grpc import service_pb2

from consumers.inference.chat_template import Template, end_of_turn, render_prompt
from consumers.inference.failures import ParameterUnsupported
from consumers.inference.tool_markup import grammar, opening
from schemas.events import InferenceRequested

TEXT_OUTPUT: Final = "text_output"
LOGPROBS_OUTPUT: Final = "output_log_probs"
# Of our own, for models that want to know which of several answers this is; others take no notice of a parameter.
CHOICE_PARAMETER: Final = "choice"
_LENGTH: Final = struct.Struct("<I")
_FLOAT: Final = struct.Struct("<f")
_FINAL: Final = "triton_final_response"
# How Triton and TensorRT-LLM say that a request can never succeed; their stream carries no status code.
_REJECTIONS: Final = (
    "exceeds max",
    "exceed max",
    "expected ",
    "invalid argument",
    "unable to parse",
    "unexpected inference input",
    "unexpected shape",
)


class Tensor(NamedTuple):
    """One input: [1, n] values of a Triton data type, in raw form."""

    name: str
    datatype: str
    length: int
    raw: bytes


def infer_request(model: str, request: InferenceRequested, prefix: str, template: Template, choice: int = 0) -> Any:
    """The ``ModelInferRequest`` that streams one choice of the answer to ``request``, continued after ``prefix``.

    Raises ParameterUnsupported for what these tensors cannot say.
    """
    if request.turn.sampling.logit_bias:
        # `embedding_bias_words` are words; OpenAI's keys are ids of tokens, which only the engine could translate.
        raise ParameterUnsupported("logit_bias")
    message = service_pb2.ModelInferRequest(model_name=model, id=request.turn.turn_id)
    for tensor in _tensors(request, prefix, template, choice):
        slot = message.inputs.add()
        slot.name, slot.datatype = tensor.name, tensor.datatype
        slot.shape.extend((1, tensor.length))
        message.raw_input_contents.append(tensor.raw)
    message.outputs.add().name = TEXT_OUTPUT
    if request.turn.generation.logprobs:
        message.outputs.add().name = LOGPROBS_OUTPUT
    if choice:
        message.parameters[CHOICE_PARAMETER].int64_param = choice
    # tritonclient reserves this name, which is why the message is made here.
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    return message


def answer_opening(request: InferenceRequested, prefix: str, template: Template) -> str:
    """What the prompt makes the answer begin with, so that the model's text goes on from there."""
    return "" if prefix else opening(request.turn.generation, marked=template is Template.CHATML)


def stop_words(request: InferenceRequested, template: Template) -> tuple[str, ...]:
    """Where the answer ends: the client's own stop strings and the template's end token."""
    return (*filter(None, request.turn.sampling.stop), end_of_turn(template))


def response_text(response: Any) -> str | None:
    """The text in a ``ModelInferResponse``; None when it carries none (an empty final response)."""
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.name == TEXT_OUTPUT:
            return b"".join(_elements(raw)).decode(errors="replace")
    return None


def response_logprob(response: Any) -> float | None:
    """The log probability of the newest token in a ``ModelInferResponse``: engines send one, or all so far."""
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.name == LOGPROBS_OUTPUT and len(raw) >= _FLOAT.size:
            return float(_FLOAT.unpack_from(raw, len(raw) - _FLOAT.size)[0])
    return None


def is_final(response: Any) -> bool:
    """Whether the model says that this is its last response."""
    return _FINAL in response.parameters and response.parameters[_FINAL].bool_param


def is_rejection(message: str) -> bool:
    """Whether an error in the stream means: never, rather than: not now."""
    lowered = message.lower()
    return any(phrase in lowered for phrase in _REJECTIONS)


def _tensors(request: InferenceRequested, prefix: str, template: Template, choice: int) -> Iterator[Tensor]:
    sampling, generation = request.turn.sampling, request.turn.generation
    begins = answer_opening(request, prefix, template)
    yield _text("text_input", [render_prompt(template, request.prompt.messages, prefix, generation, begins)])
    yield Tensor("max_tokens", "INT32", 1, struct.pack("<i", request.prompt.max_tokens))
    yield Tensor("stream", "BOOL", 1, b"\x01")
    yield Tensor("exclude_input_in_output", "BOOL", 1, b"\x01")
    yield _text("stop_words", stop_words(request, template))
    floats = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    for name, value in floats.items():
        if value is not None:
            yield Tensor(name, "FP32", 1, _FLOAT.pack(value))
    seed = _seed(request, choice)
    if seed is not None:
        yield Tensor("seed", "UINT64", 1, struct.pack("<Q", seed & 0xFFFF_FFFF_FFFF_FFFF))
    if generation.logprobs:
        yield Tensor("return_log_probs", "BOOL", 1, b"\x01")
    form = grammar(generation)
    if form is not None:
        # The kinds of guide that TensorRT-LLM knows: json, json_schema, regex, ebnf_grammar.
        schema = form.json_schema if form.kind == "json_schema" else None
        yield _text("guided_decoding_guide_type", ["json" if schema is None else "json_schema"])
        if schema is not None:
            yield _text("guided_decoding_guide", [schema.text])


def _seed(request: InferenceRequested, choice: int) -> int | None:
    """Each choice has a seed of its own; without one an engine may draw the same for all."""
    seed = request.turn.sampling.seed
    if seed is None and request.turn.generation.n > 1:
        seed = zlib.crc32(request.turn.turn_id.encode())
    return None if seed is None else seed + choice


def _text(name: str, values: Sequence[str]) -> Tensor:
    encoded = [value.encode() for value in values]
    return Tensor(name, "BYTES", len(encoded), b"".join(_LENGTH.pack(len(value)) + value for value in encoded))


def _elements(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at + _LENGTH.size <= len(raw):
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        yield raw[at : at + length]
        at += length
