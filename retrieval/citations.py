"""Citations in a reply's text, found while it streams. Pure.

Invariants: only a marker of a passage that this run's model was shown becomes a citation. Any other marker is removed
from the text, so that none dangles, as are markers beyond MAX_CITATIONS. All other text stays unchanged, and is held
back only while it can still become a marker. An answer without markers gets citations of the passages that it is based
on, at its end.

A marker is `【4:0†source】`, as OpenAI prints it; the text after the dagger is the model's choice. Square brackets are
accepted, too, but only with a dagger, because `[4:0]` also occurs in code.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from retrieval.grounding import Source, supporting_passages

__all__ = ["MAX_CITATIONS", "Citations", "Cited", "marker"]

MAX_CITATIONS: Final = 500
"""Maximum citations in one message; further markers are removed. A model that repeats itself makes tens of thousands,
each of which is an event and about 150 bytes of the message."""

_WHOLE: Final = re.compile(
    r"【\s{0,2}(\d{1,4})\s{0,2}:\s{0,2}(\d{1,4})\s{0,2}(?:†[^】\n]{0,80})?】"
    r"|\[\s{0,2}(\d{1,4})\s{0,2}:\s{0,2}(\d{1,4})\s{0,2}†[^\]\n]{0,80}\]"
)
_BEGUN: Final = re.compile(r"[【\[]\s{0,2}(?:\d{1,4}\s{0,2}(?::\s{0,2}(?:\d{1,4}\s{0,2}(?:†[^】\]\n]{0,80})?)?)?)?")
_OPENING: Final = re.compile(r"[【\[](?=\s{0,2}(?:\d|\Z))")
"""Finds a bracket that can begin a marker, in a twentieth of the time that matching every bracket takes."""


@dataclass(frozen=True, slots=True)
class Cited:
    """A marker as the model wrote it, and the file that it refers to."""

    marker: str
    file_id: str


def marker(search: int, passage: int) -> str:
    """Return the marker of a passage; the run's searches and their passages are counted from 0."""
    return f"【{search}:{passage}†source】"


class Citations:
    """Finds the markers in one reply. `sources` are the passages that the model was shown, by `"search:passage"`."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._held = ""
        self._cited = 0

    def feed(self, text: str) -> Iterator[str | Cited]:
        """Yield the text and citations that can no longer change."""
        text, self._held = self._held + text, ""
        done, position = 0, 0  # where the text that is not yielded begins, and where the search continues
        while opening := _OPENING.search(text, position):
            position = opening.start()
            if whole := _WHOLE.match(text, position):
                if position > done:
                    yield text[done:position]
                source = self._sources.get(_number(whole)) if self._cited < MAX_CITATIONS else None
                if source is not None:
                    self._cited += 1
                    yield Cited(whole.group(), source["file_id"])
                done = position = whole.end()
            elif _BEGUN.fullmatch(text, position):
                if position > done:
                    yield text[done:position]
                self._held = text[position:]
                return
            else:
                position += 1
        if done < len(text):
            yield text[done:]

    def drop(self) -> None:
        """Discard the text so far, which is no part of the answer."""
        self._held = ""
        self._cited = 0

    def close(self) -> Iterator[str]:
        """Yield the text that was held back, which did not become a marker."""
        if self._held:
            yield self._held
            self._held = ""

    @property
    def compares(self) -> bool:
        """Whether `rest` compares the answer with passages, which takes time."""
        return bool(self._sources) and not self._cited

    def rest(self, answer: str) -> Iterator[Cited]:
        """Yield citations of the passages that the whole answer is based on, if it has no markers."""
        for number in () if self._cited else supporting_passages(answer, self._sources):
            search, passage = number.split(":")
            yield Cited(marker(int(search), int(passage)), self._sources[number]["file_id"])


def _number(found: "re.Match[str]") -> str:
    search, passage = (group for group in found.groups() if group is not None)
    return f"{int(search)}:{int(passage)}"
