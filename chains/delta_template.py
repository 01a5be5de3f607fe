"""Chunks that differ from the one before in their text alone: what is around the text is compared, not parsed. Pure.

Law: what is read this way is what parsing would read. JSON in which one string stands for another means the same but
for that string; that it is the text's place is tried out when it is learned.
"""

from collections.abc import Callable
from typing import Any, Final

import orjson

__all__ = ["DeltaTemplate"]

_TRIES: Final = 8
"""How often in a row to learn what no other chunk was like: some upstreams say something else in each."""

_OTHER: Final = "\x00another text"


class DeltaTemplate:
    """What the chunks of one stream have around their texts."""

    def __init__(self, find: Callable[[Any], str | None]) -> None:
        """`find` returns the text of a chunk that is parsed, None where it is not text alone."""
        self._find = find
        self._before = self._after = b""
        self._was_met = False
        self._tries = _TRIES

    def read(self, payload: bytes) -> str | None:
        """Return the text of a payload that is like the last one that was learned, None for any other."""
        before, after = self._before, self._after
        if not (before and payload.startswith(before) and payload.endswith(after)):
            return None
        try:
            text = orjson.loads(payload[len(before) : -len(after)])
        except orjson.JSONDecodeError:
            return None
        self._was_met = True
        return text if type(text) is str else None

    def learn(self, payload: bytes, text: str) -> None:
        """Take in a payload that was parsed, and turned out to be this text."""
        if self._was_met:
            self._tries = _TRIES
        elif not self._tries:
            return
        self._tries -= 1
        self._was_met = False
        before, found, after = payload.rpartition(orjson.dumps(text))
        self._before, self._after = (before, after) if found and self._is_place(before, after) else (b"", b"")

    def _is_place(self, before: bytes, after: bytes) -> bool:
        """Whether what stands there is the text."""
        try:
            return self._find(orjson.loads(before + orjson.dumps(_OTHER) + after)) == _OTHER
        except orjson.JSONDecodeError:  # it was found within another string
            return False
