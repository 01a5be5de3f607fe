"""What the author of a request has written, to tell it from the words of a server that quotes it. Pure.

Servers quote prompts, property names and enum values in their errors. What is learned from an error counts for all
owners, so no author may put words into it.
"""

from collections.abc import Iterator
from typing import Any, Final

from chains.changes import NAMED_CHILDREN

__all__ = ["Words"]

_WINDOW: Final = 12
"""Characters beside a word: with so many of them it is a quote."""
_OF_SCHEMAS: Final = ("tools", "functions", "response_format")
_UNWRITTEN: Final = ("model", "messages")
"""Fields whose keys are the server's own."""


class Words:
    """Texts and names of one request's body, and of what goes `beside` it. Large bodies take 10 ms a megabyte."""

    def __init__(self, body: dict[str, Any], beside: Any = ()) -> None:
        names: list[str] = []
        keywords: list[str] = []
        for field, value in body.items():
            if field in _OF_SCHEMAS:
                _collect(value, names, keywords)
            elif field not in _UNWRITTEN:
                _collect(value, names, names)
        _collect(beside, names, keywords)
        self._names = _Text(names)
        self._keywords = keywords
        self._texts = _Text(list(_strings([body, beside])))

    def have_name(self, name: str) -> bool:
        """Return whether a name that the author gave to something contains this one."""
        return self._names.contain(name)

    def contain(self, name: str, *, is_keyword: bool = False) -> bool:
        """Return whether the author wrote a name, in one piece or in several. A schema keyword's own key does not count
        with `is_keyword`."""
        if self._texts.contain(name) or self._names.contain(name):
            return True
        folded = name.casefold()
        return any(folded in key.casefold() for key in self._keywords if not is_keyword or key != name)

    def quoted(self, text: str, start: int, end: int) -> bool:
        """Return whether a server's text from `start` to `end` is a quote: it was sent with what stands beside it."""
        least = end - start + _WINDOW // 2
        windows = (text[max(0, start - _WINDOW) : end], text[start : end + _WINDOW])
        return any(self._texts.hold(part) or self._names.hold(part) for part in windows if len(part) >= least)


class _Text:
    """Strings, spaces and case folded, to look for words in."""

    def __init__(self, strings: list[str]) -> None:
        words = [string.casefold().split() for string in strings]
        self._spaced = "\0".join([" ".join(each) for each in words])
        self._joined = "".join(["".join(each) for each in words])

    def hold(self, part: str) -> bool:
        """Whether one of the strings has this part."""
        return " ".join(part.casefold().split()) in self._spaced

    def contain(self, name: str) -> bool:
        """Whether a string has the name, or several have it in pieces. Escapes can hide any name."""
        return "".join(name.casefold().split()) in self._joined or "\\u" in self._joined


def _strings(value: Any) -> Iterator[str]:
    """All strings that are values, in order; roles and types stand between what a server may join."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            waiting += reversed([one for key, one in each.items() if key not in ("role", "type")])
        elif isinstance(each, list | tuple):
            waiting += reversed(each)


def _collect(value: Any, names: list[str], keywords: list[str]) -> None:
    """Add the keys within a value to `names` where they name something, else to `keywords`."""
    waiting = [(value, keywords)]
    while waiting:
        each, into = waiting.pop()
        if isinstance(each, dict):
            into += each
            waiting += ((one, names if key in NAMED_CHILDREN else keywords) for key, one in each.items())
        elif isinstance(each, list | tuple):
            waiting += ((one, into) for one in each)
