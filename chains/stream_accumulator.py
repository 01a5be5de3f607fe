"""Assembles a streamed completion into the one object that a client without `stream` expects. Pure.

llama.cpp stops a streamed answer when its reader leaves, but finishes one that is not streamed.
"""

from typing import Final

import orjson

from chains.chat_types import Sent

__all__ = ["StreamAccumulator"]

_JOINED: Final = ("content", "reasoning_content", "refusal")
_LEFT_OUT: Final = ("choices", "object", "error", "prompt_progress")


class StreamAccumulator:
    """The completion so far. `error` is the chunk with the upstream's error, if it sent one."""

    def __init__(self) -> None:
        self.error: Sent | None = None
        self._rest: Sent = {}
        self._choices: dict[int, Sent] = {}

    def add(self, payload: bytes) -> None:
        """Add one event's data; anything but a chunk, such as `[DONE]`, is ignored."""
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

    def completion(self) -> Sent | None:
        """Return the `chat.completion` or `text_completion`; None until a choice has its finish reason."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not any(choice["finish_reason"] for choice in choices):
            return None
        kind = "text_completion" if "text" in choices[0] else "chat.completion"
        return {**self._rest, "object": kind, "choices": choices}

    def _add_choice(self, part: Sent) -> None:
        index = part.get("index") or 0
        if isinstance(part.get("text"), str):
            self._add_text(index, part)
            return
        empty = {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None}
        choice = self._choices.setdefault(index, empty)
        message, delta = choice["message"], part.get("delta") or {}
        for name in _JOINED:
            if delta.get(name):
                message[name] = (message.get(name) or "") + delta[name]
        for position, call in enumerate(delta.get("tool_calls") or ()):
            self._add_call(message.setdefault("tool_calls", []), call, call.get("index", position))
        if part.get("logprobs"):
            kept = choice.setdefault("logprobs", {"content": []})
            kept["content"] += part["logprobs"].get("content") or []
        if part.get("finish_reason"):
            choice["finish_reason"] = part["finish_reason"]
            if message["content"] is None and "tool_calls" not in message:
                message["content"] = ""

    def _add_text(self, index: int, part: Sent) -> None:
        """Add a choice of a `/completions` chunk."""
        empty = {"index": index, "text": "", "logprobs": None, "finish_reason": None}
        choice = self._choices.setdefault(index, empty)
        choice["text"] += part["text"]
        choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
        if part.get("logprobs"):
            kept = choice["logprobs"] = choice["logprobs"] or {}
            for name, value in part["logprobs"].items():
                kept[name] = kept.get(name, []) + value if isinstance(value, list) else value

    @staticmethod
    def _add_call(calls: list[Sent], fragment: Sent, index: int) -> None:
        while len(calls) <= index:
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[index], fragment.get("function") or {}
        call["id"] = call["id"] or fragment.get("id") or ""
        call["function"]["name"] = call["function"]["name"] or function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
