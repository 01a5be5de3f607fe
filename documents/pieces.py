"""A text in pieces that overlap, for an index. Pure.

Law: a piece is exactly `text[start:end]`; pieces come in order, every one ends behind the one before, and no word of
the text is in none of them. A token is counted as four bytes of UTF-8, which is near the truth for English, and on the
safe side for other scripts: no tokenizer agrees with every embedder, and none need be loaded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["BYTES_PER_TOKEN", "Piece", "cut"]

BYTES_PER_TOKEN: Final = 4

_BREAKS: Final = ("\n\n", "\n", ". ", " ")
"""Where a piece had best end, best first; they are looked for in its last half."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Character offsets in the text, and what is between them."""

    start: int
    end: int
    text: str


def cut(text: str, *, max_tokens: int, overlap_tokens: int) -> Iterator[Piece]:
    """Yield the pieces. Those of one text overlap by about `overlap_tokens`, which is at most half of `max_tokens`."""
    most, overlap = max_tokens * BYTES_PER_TOKEN, overlap_tokens * BYTES_PER_TOKEN
    start, end, said = _skip_space(text, 0), 0, 0
    while start < len(text):
        reach = _reach(text, start, most)
        stop = reach if reach == len(text) else _best_break(text, start, reach)
        if stop <= end:  # the overlap left no room for a break behind the last piece's end
            stop = reach
        piece = text[start:stop].rstrip()
        if start + len(piece) > said:
            said = start + len(piece)
            yield Piece(start, start + len(piece), piece)
        if stop >= len(text):
            return
        end = stop
        start = _next_start(text, start, stop, overlap)


def _reach(text: str, start: int, most: int) -> int:
    """Return where `most` bytes from `start` end; a whole character at least."""
    part = text[start : start + most]
    if part.isascii():
        return start + len(part)
    return start + max(1, len(part.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")))


def _best_break(text: str, start: int, reach: int) -> int:
    half = start + (reach - start) // 2
    for mark in _BREAKS:
        found = text.rfind(mark, half, reach)
        if found != -1:
            return found + len(mark)
    return reach


def _next_start(text: str, start: int, stop: int, overlap: int) -> int:
    """Return the beginning of a word about `overlap` bytes before `stop`, behind `start`."""
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
    while start < len(text) and text[start].isspace():
        start += 1
    return start
