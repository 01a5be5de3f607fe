"""Streams a text on as long as it cannot be a call; from the first sign of one it is held, till its end. Pure."""

import re
from collections.abc import Collection
from typing import Final

from chains.calls.parser import may_call

__all__ = ["Holder"]

_LAST_WORD: Final = re.compile(r"[\w.-]+[ \t]*\Z")


class Holder:
    """One text. `held` is what was not let go, `text` all of it."""

    def __init__(self, offered: Collection[str], *, everything: bool = False) -> None:
        """With `everything` nothing is let go."""
        self.held = ""
        self._gone: list[str] = []
        self._offered = offered
        self._sure = everything
        names = "|".join(map(re.escape, offered))
        self._sign = re.compile(rf"[{{\[<`]|\b(?:{names})[ \t]*\(" if names else r"[{\[<`]")

    @property
    def text(self) -> str:
        """The whole text so far."""
        return "".join(self._gone) + self.held

    def feed(self, text: str) -> str:
        """Take a piece in; return what can be let go."""
        self.held += text
        if self._sure:
            return ""
        free = self._free()
        gone, self.held = self.held[:free], self.held[free:]
        if gone:
            self._gone.append(gone)
        return gone

    def _free(self) -> int:
        """Return how much of what is held is no call."""
        free = 0
        while (sign := self._sign.search(self.held, free)) is not None:
            verdict = "yes" if sign[0].endswith("(") else may_call(self.held[sign.start() :], self._offered)
            if verdict != "no":
                self._sure = verdict == "yes"
                return sign.start()
            free = sign.end()
        # `getWeather` may go on as `getWeather(`
        word = _LAST_WORD.search(self.held, free)
        begins = word is not None and any(name.startswith(word[0].strip()) for name in self._offered)
        return word.start() if word is not None and begins else len(self.held)
