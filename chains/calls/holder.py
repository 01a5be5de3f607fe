"""Streams a text on as long as it cannot be a call; from the first sign of one it is held, till its end. Pure."""

import re
from collections.abc import Collection
from typing import Final

from chains.calls.parser import may_call

__all__ = ["Holder"]

_SIGN: Final = re.compile(r"[{\[<`]")


class Holder:
    """One text. `held` is what was not let go, `text` all of it."""

    def __init__(self, offered: Collection[str], *, everything: bool = False) -> None:
        """With `everything` nothing is let go."""
        self.held = ""
        self._gone: list[str] = []
        self._offered = offered
        self._sure = everything

    @property
    def text(self) -> str:
        """The whole text so far."""
        return "".join(self._gone) + self.held

    def feed(self, text: str) -> str:
        """Take a piece in; return what can be let go."""
        self.held += text
        if self._sure:
            return ""
        free = 0
        while (sign := _SIGN.search(self.held, free)) is not None:
            verdict = may_call(self.held[sign.start() :], self._offered)
            if verdict == "no":
                free = sign.end()
                continue
            self._sure = verdict == "yes"
            free = sign.start()
            break
        else:
            free = len(self.held)
        gone, self.held = self.held[:free], self.held[free:]
        if gone:
            self._gone.append(gone)
        return gone
