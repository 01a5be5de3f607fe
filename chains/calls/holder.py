"""Streams a text on as long as it cannot be a call; from the first sign of one it is held, till its end. Pure."""

import re
from collections.abc import Collection
from typing import Final

from chains.calls.parser import may_call

__all__ = ["Holder"]

_WORD_END: Final = re.compile(r"[^\w.-]")
_MAX_NAME: Final = 300
"""Maximum characters of a function's name and the blanks after it; longer text does not start a call."""


_MAX_SIGN: Final = 1_000
"""Characters within which it must be clear whether a call begins; anything still undecided after them is text."""


class Holder:
    """One text. `held` is what was not let go, `text` all of it."""

    def __init__(self, offered: Collection[str], *, everything: bool = False) -> None:
        """With `everything` nothing is let go."""
        self._held = ""
        self._more: list[str] = []
        self._gone: list[str] = []
        self._offered = offered
        self._sure = everything
        names = "|".join(map(re.escape, offered))
        self._sign = re.compile(rf"[{{\[<`]|\b(?:{names})[ \t]*\(" if names else r"[{\[<`]")

    @property
    def held(self) -> str:
        """Text that is still held."""
        if self._more:
            self._held += "".join(self._more)
            self._more.clear()
        return self._held

    @property
    def text(self) -> str:
        """The whole text so far."""
        return "".join(self._gone) + self.held

    def feed(self, text: str) -> str:
        """Take a piece in; return what can be let go."""
        if self._sure:  # everything from here on: joined once, because each addition would copy the text
            self._more.append(text)
            return ""
        self._held += text
        free = self._free()
        gone, self._held = self._held[:free], self._held[free:]
        if gone:
            self._gone.append(gone)
        return gone

    def _free(self) -> int:
        """Return how much of what is held is no call."""
        free, held = 0, self._held
        while (sign := self._sign.search(held, free)) is not None:
            start = sign.start()
            verdict = "yes" if sign[0].endswith("(") else may_call(held[start : start + _MAX_SIGN], self._offered)
            if verdict == "wait" and len(held) - start > _MAX_SIGN:
                verdict = "no"
            if verdict != "no":
                self._sure = verdict == "yes"
                return start
            free = sign.end()
        # `getWeather` may go on as `getWeather(`
        start = _last_word(held, free)
        word = held[start:].rstrip(" \t")
        return start if word and any(name.startswith(word) for name in self._offered) else len(held)


def _last_word(text: str, free: int) -> int:
    """Return where the last word begins. Searches from the end: a search from the start takes quadratic time."""
    tail = text[max(free, len(text) - _MAX_NAME) :]
    word = tail.rstrip(" \t")
    end = _WORD_END.search(word[::-1])
    return len(text) - len(tail) + (0 if end is None else len(word) - end.start())
