"""Reads chunks that differ from the previous one only in their text: the bytes around the text are compared. Pure.

Invariant: the result is the same as that of parsing. If one JSON string replaces another, only that string's value
changes; learning verifies that the string is the text.
"""

from collections.abc import Callable
from typing import Final

import orjson

from chains.chat_types import Sent

__all__ = ["DeltaTemplate"]

_TRIES: Final = 8
"""Maximum templates in a row that match no chunk: some upstreams send chunks with something new in each."""

_OTHER: Final = "\x00another text"


class DeltaTemplate:
    """The bytes that surround the text in the chunks of one stream."""

    def __init__(self, find: Callable[[Sent], str | None]) -> None:
        """`find` returns the text of a parsed chunk; None if it has more than text."""
        self._find = find
        self._before = self._after = b""
        self._was_matched = False
        self._tries = _TRIES

    def read(self, payload: bytes) -> str | None:
        """Return the text of a payload that matches the last one learned; None for any other."""
        before, after = self._before, self._after
        if not (before and payload.startswith(before) and payload.endswith(after)):
            return None
        try:
            text = orjson.loads(payload[len(before) : -len(after)])
        except orjson.JSONDecodeError:
            return None
        self._was_matched = True
        return text if type(text) is str else None

    def learn(self, payload: bytes, text: str) -> None:
        """Learn from a payload that was parsed and has only this text."""
        if self._was_matched:
            self._tries = _TRIES
        elif not self._tries:
            return
        self._tries -= 1
        self._was_matched = False
        before, found, after = payload.rpartition(orjson.dumps(text))
        self._before, self._after = (before, after) if found and self._is_text_at(before, after) else (b"", b"")

    def _is_text_at(self, before: bytes, after: bytes) -> bool:
        """Whether the string between these bytes is the text."""
        try:
            return self._find(orjson.loads(before + orjson.dumps(_OTHER) + after)) == _OTHER
        except orjson.JSONDecodeError:  # it was found within another string
            return False
