"""Distinguishes text that a server quotes from a request from the server's own words. Pure.

Servers quote prompts, property names and enum values in their errors. What an error says about the server is
remembered, so untrusted text must not pass for the server's own words.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

from chains.request_changes import NAMED_CHILDREN

__all__ = ["RequestText"]

_WINDOW: Final = 12
"""Characters next to a word: if the request also contains this many of them, the word is a quote."""
_OF_SCHEMAS: Final = ("tools", "functions", "response_format")
_UNWRITTEN: Final = ("model", "messages")
"""Fields whose keys are the server's own."""


class RequestText:
    """Texts and names of one request's body, and of `more_texts` sent with it. Large bodies take 10 ms per megabyte."""

    def __init__(self, body: Mapping[str, object], more_texts: object = ()) -> None:
        names: list[str] = []
        keywords: list[str] = []
        for field, value in body.items():
            if field not in _UNWRITTEN:
                _collect(value, names, keywords if field in _OF_SCHEMAS else names)
        _collect(more_texts, names, keywords)
        self._names = _fold("\0".join(names))
        self._all = "\0".join(map(_fold, chain(_strings([body, more_texts]), names, keywords)))

    def has_name(self, name: str) -> bool:
        """Return whether a name in the request contains this one."""
        return _fold(name) in self._names

    def is_quoted(self, text: str, start: int, end: int) -> bool:
        """Return whether a server's text from `start` to `end` is a quote: the request contains it with the same
        adjacent text."""
        minimum = end - start + _WINDOW // 2
        windows = (text[max(0, start - _WINDOW) : end], text[start : end + _WINDOW])
        return any(_fold(part) in self._all for part in windows if len(part) >= minimum)


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def _strings(value: object) -> Iterator[str]:
    """Yield all strings that are values."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each


def _collect(value: object, names: list[str], keywords: list[str]) -> None:
    """Add the keys within a value to `names` if they name something, else to `keywords`."""
    waiting = [(value, keywords)]
    while waiting:
        each, into = waiting.pop()
        if isinstance(each, dict):
            into += each
            waiting += ((one, names if key in NAMED_CHILDREN else keywords) for key, one in each.items())
        elif isinstance(each, list | tuple):
            waiting += ((one, into) for one in each)
