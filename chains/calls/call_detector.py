"""Streams a text while it cannot be a call, and holds it from the first sign of a call to the end. Pure."""

import re
from collections.abc import Collection
from typing import Final

from chains.calls.parser import may_call

__all__ = ["CallDetector"]

_WORD_END: Final = re.compile(r"[^\w.-]")
_MAX_NAME: Final = 300
"""Maximum characters of a function's name and the blanks after it; longer text does not start a call."""


_MAX_SIGN: Final = 1_000
"""Characters within which a call must be recognizable; text that is still undecided after them is no call."""


class CallDetector:
    """One streamed text: `held` is the part that was not released, `text` all of it."""

    def __init__(self, offered: Collection[str], *, everything: bool = False) -> None:
        """With `everything`, nothing is released."""
        self._held = ""
        self._pieces: list[str] = []
        self._released: list[str] = []
        self._offered = offered
        self._holds_all = everything
        names = "|".join(map(re.escape, offered))
        self._sign = re.compile(rf"[{{\[<`]|\b(?:{names})[ \t]*\(" if names else r"[{\[<`]")

    @property
    def held(self) -> str:
        """The text that is still held."""
        if self._pieces:
            self._held += "".join(self._pieces)
            self._pieces.clear()
        return self._held

    @property
    def text(self) -> str:
        """The whole text so far."""
        return "".join(self._released) + self.held

    def feed(self, text: str) -> str:
        """Add a piece of text; return the text that can be released."""
        if self._holds_all:  # the rest is held, and joined only once, because each addition would copy the text
            self._pieces.append(text)
            return ""
        self._held += text
        free = self._free()
        released, self._held = self._held[:free], self._held[free:]
        if released:
            self._released.append(released)
        return released

    def _free(self) -> int:
        """Return how many characters of the held text are no call."""
        free, held = 0, self._held
        while (sign := self._sign.search(held, free)) is not None:
            start = sign.start()
            verdict = "yes" if sign[0].endswith("(") else may_call(held[start : start + _MAX_SIGN], self._offered)
            if verdict == "wait" and len(held) - start > _MAX_SIGN:
                verdict = "no"
            if verdict != "no":
                self._holds_all = verdict == "yes"
                return start
            free = sign.end()
        # `getWeather` may continue as `getWeather(`
        start = _last_word(held, free)
        word = held[start:].rstrip(" \t")
        return start if word and any(name.startswith(word) for name in self._offered) else len(held)


def _last_word(text: str, free: int) -> int:
    """Return where the last word begins. Searches from the end: a search from the start takes quadratic time."""
    tail = text[max(free, len(text) - _MAX_NAME) :]
    word = tail.rstrip(" \t")
    end = _WORD_END.search(word[::-1])
    return len(text) - len(tail) + (0 if end is None else len(word) - end.start())
