"""Splits a text into overlapping chunks for an index. Pure.

Invariants: a chunk is exactly `text[start:end]`; chunks are in order, each ends after the previous one, and every word
of the text is in at least one. A token counts as four bytes of UTF-8, which is accurate for English and conservative
for other scripts. No tokenizer is loaded, because none agrees with every embedder.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["BYTES_PER_TOKEN", "Chunk", "split_text"]

BYTES_PER_TOKEN: Final = 4

_NO_SPACE: Final = re.compile(r"\S")
_WINDOW: Final = 64 * 1024
"""Characters that are searched at a time, in less than a millisecond."""

_BREAKS: Final = ("\n\n", "\n", ". ", " ")
"""Preferred ends of a chunk, best first. They are searched for in its second half."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Character offsets in the text, and the text between them."""

    start: int
    end: int
    text: str


def split_text(text: str, *, max_tokens: int, overlap_tokens: int) -> Iterator[Chunk]:
    """Yield the chunks. Those of one text overlap by about `overlap_tokens`, which is at most half of `max_tokens`."""
    maximum, overlap = max_tokens * BYTES_PER_TOKEN, overlap_tokens * BYTES_PER_TOKEN
    start, end, last_end = _skip_space(text, 0), 0, 0
    while start < len(text):
        limit = _limit(text, start, maximum)
        stop = limit if limit == len(text) else _best_break(text, start, limit)
        if stop <= end:  # with the overlap, the break is at or before the previous chunk's end
            stop = limit
        chunk = text[start:stop].rstrip()
        if start + len(chunk) > last_end:
            last_end = start + len(chunk)
            yield Chunk(start, start + len(chunk), chunk)
        if stop >= len(text):
            return
        end = stop
        start = _next_start(text, start, stop, overlap)


def _limit(text: str, start: int, maximum: int) -> int:
    """Return the position at most `maximum` bytes after `start`, but after at least one whole character."""
    part = text[start : start + maximum]
    if part.isascii():
        return start + len(part)
    return start + max(1, len(part.encode("utf-8", "replace")[:maximum].decode("utf-8", "ignore")))


def _best_break(text: str, start: int, limit: int) -> int:
    half = start + (limit - start) // 2
    for mark in _BREAKS:
        found = text.rfind(mark, half, limit)
        if found != -1:
            return found + len(mark)
    return limit


def _next_start(text: str, start: int, stop: int, overlap: int) -> int:
    """Return the start of a word about `overlap` bytes before `stop`, and after `start`."""
    back = stop
    if overlap:
        part = text[max(start + 1, stop - overlap) : stop]
        kept = part if part.isascii() else part.encode("utf-8", "replace")[-overlap:].decode("utf-8", "ignore")
        back = stop - len(kept)
        word = text.find(" ", back, stop)
        line = text.find("\n", back, stop)
        nearest = min((found for found in (word, line) if found != -1), default=back - 1)
        back = nearest + 1
    return _skip_space(text, max(back, start + 1))


def _skip_space(text: str, start: int) -> int:
    # In windows: a file can consist of blanks, and no other thread runs while a pattern is searched.
    for window in range(start, len(text), _WINDOW):
        if (found := _NO_SPACE.search(text, window, window + _WINDOW)) is not None:
            return found.start()
    return len(text)
