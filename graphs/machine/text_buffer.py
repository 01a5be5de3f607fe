"""A text that arrives in pieces, such as the tokens of a reply."""

from collections.abc import Sequence
from typing import Final

__all__ = ["TextBuffer"]

_JOINED: Final = 1024


class TextBuffer:
    """The pieces of a text. They are joined in blocks: alone, a token takes 60 bytes of memory; joined, only a few."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._newest: list[str] = []
        self._chars = 0
        """The characters of the blocks."""

    def __bool__(self) -> bool:
        """Return whether there is a piece, which can be empty."""
        return bool(self._newest or self._blocks)

    def __str__(self) -> str:
        """Return the text."""
        return "".join([*self._blocks, *self._newest])

    @property
    def chars(self) -> int:
        """The number of characters."""
        return self._chars + sum(map(len, self._newest))

    def extend(self, pieces: Sequence[str]) -> None:
        """Add pieces at the end."""
        self._newest.extend(pieces)
        if len(self._newest) >= _JOINED:
            block = "".join(self._newest)
            self._blocks.append(block)
            self._chars += len(block)
            self._newest.clear()
