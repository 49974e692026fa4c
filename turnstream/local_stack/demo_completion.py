"""OpenAI's request bodies and answers, to and from the demonstration model's plans. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

MODEL: Final = "turnstream-demo"
COMPLETION_TOKENS_DEFAULT: Final = 4_096
CHOICES_MAX: Final = 8
_TYPE: Final = {"unavailable": "service_unavailable_error", "invalid": "invalid_request_error"}


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion under way: a ``demo_answer.Plan`` for each choice; ``model`` is the module of that name."""

    id: str
    created: int
    plans: tuple[Any, ...]
    model: Any
    with_usage: bool = False
    logprobs: int | None = None

    @property
    def error(self) -> str | None:
        """The kind of the error that the prompt asks for; it strikes all choices at once."""
        kind: str | None = self.plans[0].error
        return kind

    def usage(self) -> dict[str, int]:
        """OpenAI's usage object: the prompt once, the tokens of all choices."""
        done = sum(len(plan.tokens) for plan in self.plans)
        prompt = self.plans[0].prompt_tokens
        return {"prompt_tokens": prompt, "completion_tokens": done, "total_tokens": prompt + done}

    def begin(self) -> Iterator[str]:
        """The frames before the first token."""
        for choice, plan in enumerate(self.plans):
            yield self.chunk([self._choice(choice, {"role": "assistant", "content": None if plan.call else ""})])

    def frames(self, index: int) -> Iterator[str]:
        """The frames of the tokens at ``index``, one of each choice that has so many."""
        for choice, plan in enumerate(self.plans):
            if index < len(plan.tokens):
                yield from self._token(choice, plan, index)

    def end(self) -> Iterator[str]:
        """The frames after the last token."""
        for choice, plan in enumerate(self.plans):
            yield self.chunk([self._choice(choice, {}, finish_reason(plan))])
        if self.with_usage:
            yield self.chunk([], self.usage())
        yield "data: [DONE]\n\n"

    def whole(self) -> dict[str, Any]:
        """The completion in one piece."""
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": MODEL,
            "choices": [self._message(choice, plan) for choice, plan in enumerate(self.plans)],
            "usage": self.usage(),
        }

    def chunk(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> str:
        """One SSE frame."""
        body: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": MODEL,
            "choices": choices,
        }
        if self.with_usage:
            body["usage"] = usage
        return frame(body)

    def _token(self, choice: int, plan: Any, index: int) -> Iterator[str]:
        token = plan.tokens[index]
        if plan.call is None:
            delta: dict[str, Any] = {"content": token}
            yield self.chunk([self._choice(choice, delta, logprobs=self._logprobs((token,), index))])
            return
        if index == 0:
            named = _call(self.id, choice, plan.call.name, "")
            yield self.chunk([self._choice(choice, {"tool_calls": [{"index": 0, **named}]})])
        piece = {"index": 0, "function": {"arguments": token}}
        yield self.chunk([self._choice(choice, {"tool_calls": [piece]})])

    def _message(self, choice: int, plan: Any) -> dict[str, Any]:
        text = "".join(plan.tokens)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        logprobs = None if plan.call else self._logprobs(plan.tokens, 0)
        if plan.call is not None:
            message |= {"content": None, "tool_calls": [_call(self.id, choice, plan.call.name, text)]}
        return {"index": choice, "message": message, "finish_reason": finish_reason(plan), "logprobs": logprobs}

    def _logprobs(self, tokens: tuple[str, ...], start: int) -> dict[str, Any] | None:
        if self.logprobs is None:
            return None
        content = []
        for index, token in enumerate(tokens, start=start):
            tops = self.model.alternatives(token, index, self.logprobs)
            content.append(
                _logprob(token, self.model.logprob(token, index)) | {"top_logprobs": [_logprob(*top) for top in tops]}
            )
        return {"content": content, "refusal": None}

    @staticmethod
    def _choice(
        index: int, delta: dict[str, Any], reason: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}


def finish_reason(plan: Any) -> str:
    """OpenAI's reason for the end of a plan."""
    reason: str = plan.finish_reason
    return "tool_calls" if plan.call is not None and reason == "stop" else reason


def plan_choices(model: Any, tools: Any, body: Mapping[str, Any], pace: Any) -> tuple[Any, ...]:
    """The plans of all choices that ``body`` asks for. Raises KeyError, TypeError, ValueError for a broken one."""
    messages, prefix = _conversation(body, tools)
    offered, mode = _offered(body, tools)
    limit = int(body.get("max_completion_tokens") or body.get("max_tokens") or COMPLETION_TOKENS_DEFAULT)
    count = min(int(body.get("n") or 1), CHOICES_MAX)
    return tuple(
        model.plan_answer(
            model.Conversation(
                messages=messages, prefix=prefix, tools=offered, mode=mode, schema=_schema(body), choice=choice
            ),
            limit,
            _stop_words(body),
            pace,
        )
        for choice in range(count)
    )


def frame(body: Mapping[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n"


def error_body(kind: str, message: str) -> dict[str, str | None]:
    """OpenAI's error object."""
    return {"message": message, "type": _TYPE[kind], "param": None, "code": None}


def _conversation(body: Mapping[str, Any], tools: Any) -> tuple[tuple[tuple[str, str], ...], str]:
    messages = [(str(message["role"]), _said(message, tools)) for message in body["messages"]]
    if body.get("continue_final_message") and messages[-1][0] == "assistant":
        return tuple(messages[:-1]), messages[-1][1]
    return tuple(messages), ""


def _said(message: Mapping[str, Any], tools: Any) -> str:
    text = _text(message.get("content"))
    calls = [tools.in_words(call["function"]["name"]) for call in message.get("tool_calls") or ()]
    return "\n".join(filter(None, (text, *calls))) if calls else text


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return content if isinstance(content, str) else ""


def _offered(body: Mapping[str, Any], tools: Any) -> tuple[tuple[Any, ...], str]:
    offered = tools.offered_tools(body.get("tools"))
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, str):
        return offered, choice
    if choice.get("type") == "function":
        name = choice["function"]["name"]
        return tuple(tool for tool in offered if tool.name == name), "required"
    allowed = choice["allowed_tools"]
    names = {one["function"]["name"] for one in allowed["tools"]}
    return tuple(tool for tool in offered if tool.name in names), str(allowed["mode"])


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = body.get("response_format") or {}
    kind = wanted.get("type", "text")
    if kind == "json_schema":
        schema = wanted["json_schema"].get("schema")
        return schema if isinstance(schema, Mapping) else {}
    return {} if kind == "json_object" else None


def _stop_words(body: Mapping[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop") or ()
    return (stop,) if isinstance(stop, str) else tuple(map(str, stop))


def _call(completion_id: str, choice: int, name: str, arguments: str) -> dict[str, Any]:
    call_id = f"call_{completion_id[-20:]}{choice}"
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _logprob(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
