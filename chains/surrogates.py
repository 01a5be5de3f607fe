r"""Characters that an upstream cut in two: `"\ud83d"` in one chunk and `"\ude00"` in the next are one emoji. Pure.

JSON may spell half of a surrogate pair, and servers that cut their text between two UTF-16 units do; half a pair is no
text, and orjson refuses it. Law: halves that belong together come out as one character, a half that stays alone as the
replacement character; nothing of this costs a stream anything that has no halves.
"""

import json
from typing import Any, Final

__all__ = ["Halves"]

_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal")
_HIGH: Final = ("\ud800", "\udbff")


class Halves:
    """One stream's halves. `met` is true once there was one; until then `join` need not be asked."""

    def __init__(self) -> None:
        self.met = False
        self._held: dict[str, str] = {}

    def read(self, payload: bytes) -> Any:
        """Return what is in a payload that orjson refused. Raises ValueError where halves are not the reason."""
        if b"\\ud" not in payload.lower():
            raise ValueError("no surrogate in it")
        self.met = True
        found = json.loads(payload)
        return found if isinstance(found, dict) and "choices" in found else _whole(found)

    def join(self, said: dict[str, Any], *, ends: bool) -> dict[str, Any]:
        """Return a delta whose texts are text, with what was held back of earlier ones; when it `ends`, all of it."""
        told: dict[str, Any] = _whole(said)
        if isinstance(calls := said.get("tool_calls"), list):
            told["tool_calls"] = [
                self._call(call, whole, place, ends=ends)
                for place, (call, whole) in enumerate(zip(calls, told["tool_calls"], strict=True))
            ]
        for name in _TEXTS:
            text = said.get(name)
            if isinstance(text, str) or (text is None and ends and name in self._held):
                told[name] = self._join(name, text or "", ends=ends)
        return told

    def _call(self, call: Any, whole: Any, place: int, *, ends: bool) -> Any:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(arguments := function.get("arguments"), str):
            return whole
        key = f"arguments {call.get('index', place)}"
        return {**whole, "function": {**whole["function"], "arguments": self._join(key, arguments, ends=ends)}}

    def _join(self, key: str, text: str, *, ends: bool) -> str:
        text = self._held.pop(key, "") + text
        if not ends and text and _HIGH[0] <= text[-1] <= _HIGH[1]:
            self._held[key], text = text[-1], text[:-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _whole(value: Any) -> Any:
    """Return JSON in which no half is left: what is no text of the answer needs no partner."""
    return json.loads(
        json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    )
