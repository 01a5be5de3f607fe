r"""Joins surrogate pairs that an upstream split: `"\ud83d"` in one chunk, `"\ude00"` in the next are one emoji. Pure.

JSON can contain half of a surrogate pair, and servers that cut their text between two UTF-16 units send it. Such a half
is not valid text, and orjson refuses it. Invariants: two halves that belong together become one character; a half that
stays alone becomes the replacement character; a stream without halves has no overhead.
"""

import json
from typing import Any, Final

from chains.chat_types import Sent

__all__ = ["SurrogatePairs"]

_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal")
_HIGH: Final = ("\ud800", "\udbff")


class SurrogatePairs:
    """One stream's halves of surrogate pairs. `met` is true after the first; until then `join` is not needed."""

    def __init__(self) -> None:
        self.met = False
        self._held: dict[str, str] = {}

    def read(self, payload: bytes) -> Any:  # as of `json.loads`
        """Parse a payload that orjson refused. Raises ValueError if halves are not the reason."""
        if b"\\ud" not in payload.lower():
            raise ValueError("no surrogate in it")
        self.met = True
        value = json.loads(payload)
        return value if isinstance(value, dict) and "choices" in value else _without_halves(value)

    def join(self, delta: Sent, *, ends: bool) -> Sent:
        """Return the delta with valid texts, including the halves held back from earlier deltas.

        A half at the end of a text is held back unless this delta `ends` the stream.
        """
        joined: Sent = _without_halves(delta)
        if isinstance(calls := delta.get("tool_calls"), list):
            joined["tool_calls"] = [
                self._call(call, whole, index, ends=ends)
                for index, (call, whole) in enumerate(zip(calls, joined["tool_calls"], strict=True))
            ]
        for name in _TEXTS:
            text = delta.get(name)
            if isinstance(text, str) or (text is None and ends and name in self._held):
                joined[name] = self._join(name, text or "", ends=ends)
        return joined

    def _call(self, call: object, whole: Sent, index: int, *, ends: bool) -> Sent:
        if not isinstance(call, dict) or not isinstance(function := call.get("function"), dict):
            return whole
        if not isinstance(arguments := function.get("arguments"), str):
            return whole
        key = f"arguments {call.get('index', index)}"
        return {**whole, "function": {**whole["function"], "arguments": self._join(key, arguments, ends=ends)}}

    def _join(self, key: str, text: str, *, ends: bool) -> str:
        text = self._held.pop(key, "") + text
        if not ends and text and _HIGH[0] <= text[-1] <= _HIGH[1]:
            self._held[key], text = text[-1], text[:-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _without_halves(value: object) -> Any:  # as of `json.loads`
    """Return a JSON value with replacement characters for its halves: only the answer's texts are joined."""
    return json.loads(
        json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    )
