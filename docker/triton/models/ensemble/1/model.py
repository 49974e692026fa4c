"""The demonstration model in Triton's Python backend: decoupled, one scheduler thread for all requests.

It speaks the tensors of tensorrtllm_backend's ``ensemble`` and ``tensorrt_llm_bls``, so a client that works here
works with a real engine. What it says is decided in ``demo_answer``; this file only keeps the time.
"""

# ruff: noqa: INP001  # the folder names are Triton's
from __future__ import annotations

import dataclasses
import heapq
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

# The backend's interpreter runs isolated: a virtual environment with numpy is reached through PYTHONPATH by hand.
sys.path.extend(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))

import demo_answer
import numpy as np
import triton_python_backend_utils as pb_utils

REQUESTS_IN_FLIGHT_MAX: Final = 4096
FINALIZE_S_MAX: Final = 2.0


class Answer:
    """One request while it is answered. ``step`` sends what is due and says when to come back."""

    def __init__(self, sender: Any, plan: Any, *, stream: bool, logprobs: bool) -> None:
        self._sender = sender
        self._plan = plan
        self._stream = stream
        self._logprobs = logprobs
        self._next = 0
        self._start = time.monotonic()

    def due(self) -> float:
        """Seconds of the monotonic clock at which the next step is due."""
        return self._start + self._plan.due_ms(self._next) / 1000

    def step(self) -> bool:
        """Send one token, the error or the end. True while there is more to send."""
        plan = self._plan
        if self._sender.is_cancelled():
            return self._end()
        if plan.error is not None and self._next >= min(plan.error_at, len(plan.tokens)):
            return self._fail(plan.error)
        if self._next >= len(plan.tokens):
            return self._end()
        self._next += 1
        if self._stream:
            self._send(plan.tokens[self._next - 1 : self._next], self._next - 1)
        elif self._next == len(plan.tokens):
            self._send(plan.tokens, 0)
        if self._next < len(plan.tokens) or plan.error is not None:
            return True
        return self._end()

    def _send(self, tokens: Sequence[str], start: int) -> None:
        logprobs = (
            [demo_answer.logprob(token, start + at) for at, token in enumerate(tokens)] if self._logprobs else None
        )
        self._sender.send(_response("".join(tokens), logprobs))

    def _fail(self, kind: str) -> bool:
        if kind == "unavailable":
            _refuse(self._sender, "unavailable: asked for by the prompt", pb_utils.TritonError.UNAVAILABLE)
        else:
            _refuse(self._sender, "invalid argument: asked for by the prompt", pb_utils.TritonError.INVALID_ARG)
        return False

    def _end(self) -> bool:
        self._sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return False


class Scheduler:
    """Runs every answer on one thread, in the order in which their tokens are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Answer]] = []
        self._changed = threading.Condition()
        self._count = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="demo-scheduler", daemon=True)
        self._thread.start()

    def add(self, answer: Answer) -> bool:
        """Take an answer; False when too many are in flight."""
        with self._changed:
            if len(self._heap) >= REQUESTS_IN_FLIGHT_MAX:
                return False
            self._push(answer)
            self._changed.notify()
            return True

    def close(self) -> None:
        """Stop; answers in flight are dropped, as they are when an engine dies."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(FINALIZE_S_MAX)

    def _push(self, answer: Answer) -> None:
        self._count += 1
        heapq.heappush(self._heap, (answer.due(), self._count, answer))

    def _run(self) -> None:
        while (answer := self._next_due()) is not None:
            try:
                more = answer.step()
            except pb_utils.TritonModelException as error:
                # One broken request must not take the thread of all the others with it.
                pb_utils.Logger.log_warn(f"an answer was dropped: {error}")
                continue
            if more:
                with self._changed:
                    self._push(answer)

    def _next_due(self) -> Answer | None:
        with self._changed:
            while not self._closed:
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(wait)
        return None


class TritonPythonModel:
    """The class that Triton's Python backend looks for."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the pace from config.pbtxt and the environment, and start the scheduler."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        self._pace = demo_answer.server_pace(parameters, os.environ)
        self._scheduler = Scheduler()

    def execute(self, requests: list[Any]) -> None:
        """Hand the requests to the scheduler and return at once, as a decoupled model may."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                conversation = _conversation(request)
            except ValueError:
                _refuse(sender, "invalid argument: the guide is no JSON", pb_utils.TritonError.INVALID_ARG)
                continue
            max_tokens = _first(request, "max_tokens", int, 0)
            if max_tokens < 1:
                _refuse(sender, "invalid argument: max_tokens must be at least 1", pb_utils.TritonError.INVALID_ARG)
                continue
            plan = demo_answer.plan_answer(conversation, max_tokens, _words(request, "stop_words"), self._pace)
            stream, logprobs = any(_values(request, "stream")), any(_values(request, "return_log_probs"))
            if not self._scheduler.add(Answer(sender, plan, stream=stream, logprobs=logprobs)):
                _refuse(sender, "unavailable: too many requests in flight", pb_utils.TritonError.UNAVAILABLE)

    def finalize(self) -> None:
        """Stop the scheduler."""
        self._scheduler.close()


def _refuse(sender: Any, message: str, code: int) -> None:
    # Error and final flag go in one call: in its strict gRPC mode Triton 2.51 crashes on anything sent after an error.
    response = pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _conversation(request: Any) -> Any:
    """The prompt, with the grammar that the guide asks for and the number of the choice."""
    conversation = demo_answer.parse_prompt(_first(request, "text_input", _text, ""))
    kind = _first(request, "guided_decoding_guide_type", _text, "")
    if kind in {"json", "json_schema"}:
        guide = json.loads(_first(request, "guided_decoding_guide", _text, "{}"))
        conversation = dataclasses.replace(conversation, schema=guide if isinstance(guide, dict) else {})
    parameters = json.loads(request.parameters() or "{}")
    return dataclasses.replace(conversation, choice=int(parameters.get("choice", 0)))


def _response(text: str, logprobs: Sequence[float] | None) -> Any:
    tensors = [pb_utils.Tensor("text_output", np.array([[text.encode()]], dtype=object))]
    if logprobs is not None:
        # [batch, beam, token], as TensorRT-LLM has it.
        tensors.append(pb_utils.Tensor("output_log_probs", np.array([[logprobs]], dtype=np.float32)))
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _values(request: Any, name: str) -> list[Any]:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return [] if tensor is None else list(tensor.as_numpy().reshape(-1))


def _first(request: Any, name: str, convert: Callable[[Any], Any], default: Any) -> Any:
    values = _values(request, name)
    return convert(values[0]) if values else default


def _words(request: Any, name: str) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, _values(request, name))))


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
