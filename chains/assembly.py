"""A streamed completion put together: chunks in, the one object that a client without `stream` asked for out. Pure.

llama.cpp goes on with an answer that is not streamed after its reader has left; one that is streamed it stops.
"""

from typing import Any, Final

import orjson

__all__ = ["Assembly"]

_JOINED: Final = ("content", "reasoning_content", "refusal")
_LEFT_OUT: Final = ("choices", "object", "error", "prompt_progress")


class Assembly:
    """The completion so far. `error` is what the upstream broke off with, as it was told."""

    def __init__(self) -> None:
        self.error: dict[str, Any] | None = None
        self._rest: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, payload: bytes) -> None:
        """Take in one event's data; what is no chunk (`[DONE]`) is passed over."""
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return
        if not isinstance(chunk, dict):
            return
        if chunk.get("error"):
            self.error = self.error or chunk
            return
        self._rest |= {name: value for name, value in chunk.items() if name not in _LEFT_OUT and value is not None}
        for choice in chunk.get("choices") or ():
            self._add_choice(choice)

    def whole(self) -> dict[str, Any] | None:
        """Return the `chat.completion` or `text_completion`; None while no choice has its finish reason."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not any(choice["finish_reason"] for choice in choices):
            return None
        kind = "text_completion" if "text" in choices[0] else "chat.completion"
        return {**self._rest, "object": kind, "choices": choices}

    def _add_choice(self, told: dict[str, Any]) -> None:
        index = told.get("index") or 0
        if isinstance(told.get("text"), str):
            self._add_text(index, told)
            return
        empty = {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None}
        choice = self._choices.setdefault(index, empty)
        message, delta = choice["message"], told.get("delta") or {}
        for name in _JOINED:
            if delta.get(name):
                message[name] = (message.get(name) or "") + delta[name]
        for position, call in enumerate(delta.get("tool_calls") or ()):
            self._add_call(message.setdefault("tool_calls", []), call, call.get("index", position))
        if told.get("logprobs"):
            kept = choice.setdefault("logprobs", {"content": []})
            kept["content"] += told["logprobs"].get("content") or []
        if told.get("finish_reason"):
            choice["finish_reason"] = told["finish_reason"]
            if message["content"] is None and "tool_calls" not in message:
                message["content"] = ""

    def _add_text(self, index: int, told: dict[str, Any]) -> None:
        """Take in a chunk of `/completions`."""
        empty = {"index": index, "text": "", "logprobs": None, "finish_reason": None}
        choice = self._choices.setdefault(index, empty)
        choice["text"] += told["text"]
        choice["finish_reason"] = told.get("finish_reason") or choice["finish_reason"]
        if told.get("logprobs"):
            kept = choice["logprobs"] = choice["logprobs"] or {}
            for name, value in told["logprobs"].items():
                kept[name] = kept.get(name, []) + value if isinstance(value, list) else value

    @staticmethod
    def _add_call(calls: list[dict[str, Any]], told: dict[str, Any], index: int) -> None:
        while len(calls) <= index:
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[index], told.get("function") or {}
        call["id"] = call["id"] or told.get("id") or ""
        call["function"]["name"] = call["function"]["name"] or function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
