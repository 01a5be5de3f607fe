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
_OPENING: Final = re.compile(r"[【\[]")


@dataclass(frozen=True, slots=True)
class Cited:
    """A marker as the model wrote it, and the file that it stands for."""

    marker: str
    file_id: str


def marker(search: int, passage: int) -> str:
    """Return the marker of a passage: the run's searches and their passages are counted from 0."""
    return f"【{search}:{passage}†source】"


class Citations:
    """Finds the markers in one reply. `sources`: what the model was shown, by `"search:passage"`."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._held = ""
        self._cited = 0

    def feed(self, text: str) -> Iterator[str | Cited]:
        """Yield what is certain by now."""
        text, self._held = self._held + text, ""
        said, place = 0, 0  # what was yielded, and the position at which the search continues
        while opening := _OPENING.search(text, place):
            place = opening.start()
            if whole := _WHOLE.match(text, place):
                if place > said:
                    yield text[said:place]
                source = self._sources.get(_place(whole)) if self._cited < MAX_CITATIONS else None
                if source is not None:
                    self._cited += 1
                    yield Cited(whole.group(), source["file_id"])
                said = place = whole.end()
            elif _BEGUN.fullmatch(text, place):
                if place > said:
                    yield text[said:place]
                self._held = text[place:]
                return
            else:
                place += 1
        if said < len(text):
            yield text[said:]

    def drop(self) -> None:
        """Forget what was read: it was no part of the answer."""
        self._held = ""
        self._cited = 0

    def close(self) -> Iterator[str]:
        """Yield what was held back: no marker came of it."""
        if self._held:
            yield self._held
            self._held = ""

    @property
    def compares(self) -> bool:
        """Whether `rest` compares the answer with passages, which takes time."""
        return bool(self._sources) and not self._cited

    def rest(self, answer: str) -> Iterator[Cited]:
        """Yield what the whole answer rests on, where it has cited nothing."""
        for place in () if self._cited else supporting_passages(answer, self._sources):
            search, passage = place.split(":")
            yield Cited(marker(int(search), int(passage)), self._sources[place]["file_id"])


def _place(found: "re.Match[str]") -> str:
    search, passage = (group for group in found.groups() if group is not None)
    return f"{int(search)}:{int(passage)}"
