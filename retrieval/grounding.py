"""Which passages an answer rests on, for models that cite nothing themselves. Pure.

Law: a passage is named only for a sentence whose words it has, among them words that nobody asked for. So an
answer that repeats the question, or says that the files say nothing, rests on nothing; wording is compared, not truth.
Nothing here knows a language: short words count as grammar, long ones, numbers and writing without spaces as content.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final, TypedDict

from store.folding import fold

__all__ = ["Source", "supporting_passages"]

_MOST: Final = 3
"""Passages named for one answer; more of them tell a reader nothing."""

_MOST_CHARS: Final = 200_000
"""Characters of an answer and of its passages that are compared: 30 ms of the event loop. The latest searches count."""
_MOST_COMPARED: Final = 20_000
"""Maximum sentences times passages: another 30 ms. The rest of the answer is not examined."""

_SHARE: Final = 0.6
_NEW: Final = 2
_WORD: Final = re.compile("[\\w\U000f0000-\U000ffffd]+")
"""The private characters are marks that `fold` keeps."""

_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
_CONTENT_CHARS: Final = 5
_STEM_CHARS: Final = 5


class Source(TypedDict):
    """A passage that the model was shown: its file, what it says, and what was asked: by the search, by the user."""

    file_id: str
    text: str
    asked: str


def supporting_passages(answer: str, sources: Mapping[str, Source]) -> list[str]:
    """Return the places (`search:passage`) that sentences of the answer rest on, in their order, at most three."""
    answer = answer[:_MOST_CHARS]
    passages = {
        place: (_content(source["text"]), _content(source["asked"]))
        for place, source in _latest(sources, _MOST_CHARS - len(answer) // 2).items()
    }
    found: dict[str, None] = {}
    left = _MOST_COMPARED
    for sentence in _SENTENCE.split(answer):
        said = _content(sentence)
        left -= len(passages) if said else 0
        if left < 0 or len(found) >= _MOST:
            break
        rated = [(_support(said, passage, asked), place) for place, (passage, asked) in passages.items()]
        best, place = max(rated, key=lambda each: each[0], default=(0.0, ""))
        if best > 0:
            found[place] = None
    return list(found)[:_MOST]


def _latest(sources: Mapping[str, Source], most_chars: int) -> dict[str, Source]:
    """Return the last sources, in their order, that have at most `most_chars` characters in total."""
    kept: list[tuple[str, Source]] = []
    for place, source in reversed(list(sources.items())):
        most_chars -= len(source["text"]) + len(source["asked"])
        if most_chars < 0:
            break
        kept.append((place, source))
    return dict(reversed(kept))


def _support(said: set[str], passage: set[str], asked: set[str]) -> float:
    """Return the share of a sentence's words that the passage has; 0 where that is too little to go by."""
    new = said - asked
    shared = said & passage
    if not new or len(shared) < _SHARE * len(said) or len(new & passage) < min(_NEW, len(new)):
        return 0.0
    return len(shared) / len(said)


def _content(text: str) -> set[str]:
    """Return the words that carry a text's content, without endings and diacritics."""
    bare = "".join(char for char in unicodedata.normalize("NFD", fold(text)) if not unicodedata.combining(char))
    plain = unicodedata.normalize("NFC", bare)  # a syllable of Hangul is one character again
    return {word[:_STEM_CHARS] for word in _WORD.findall(plain.casefold()) if _tells(word)}


def _tells(word: str) -> bool:
    return len(word) >= _CONTENT_CHARS or any(char.isdigit() for char in word) or unicodedata.category(word[0]) == "Lo"
