"""Finds the passages that an answer is based on, for models that cite nothing themselves. Pure.

Invariant: a passage is cited only for a sentence with words of the passage, including words that are not in the
question. So an answer that repeats the question, or reports that the files contain nothing, has no citations. Only
wording is compared. No language is assumed: short words count as grammar; long words, numbers and scripts without
spaces count as content.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final, TypedDict

from store.folding import fold

__all__ = ["Source", "supporting_passages"]

_MOST: Final = 3
"""Maximum passages cited for one answer; more would not help a reader."""

_MOST_CHARS: Final = 200_000
"""Maximum characters of an answer and its passages that are compared, in 30 ms. The latest searches take precedence."""
_MOST_COMPARED: Final = 20_000
"""Maximum sentences times passages: another 30 ms. The rest of the answer is not examined."""

_SHARE: Final = 0.6
_NEW: Final = 2
_WORD: Final = re.compile("[\\w\U000f0000-\U000ffffd]+")
"""The private-use characters are marks that `fold` keeps."""

_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
_CONTENT_CHARS: Final = 5
_STEM_CHARS: Final = 5


class Source(TypedDict):
    """A passage that the model was shown: its file and text, and the queries of the search and the user (`asked`)."""

    file_id: str
    text: str
    asked: str


def supporting_passages(answer: str, sources: Mapping[str, Source]) -> list[str]:
    """Return the numbers (`search:passage`) of the passages that support the answer, in its order, at most three."""
    answer = answer[:_MOST_CHARS]
    passages = {
        number: (_content(source["text"]), _content(source["asked"]))
        for number, source in _latest(sources, _MOST_CHARS - len(answer) // 2).items()
    }
    found: dict[str, None] = {}
    left = _MOST_COMPARED
    for sentence in _SENTENCE.split(answer):
        words = _content(sentence)
        left -= len(passages) if words else 0
        if left < 0 or len(found) >= _MOST:
            break
        rated = [(_support(words, passage, asked), number) for number, (passage, asked) in passages.items()]
        best, number = max(rated, key=lambda each: each[0], default=(0.0, ""))
        if best > 0:
            found[number] = None
    return list(found)[:_MOST]


def _latest(sources: Mapping[str, Source], most_chars: int) -> dict[str, Source]:
    """Return the last sources that have at most `most_chars` characters in total, in their order."""
    kept: list[tuple[str, Source]] = []
    for number, source in reversed(list(sources.items())):
        most_chars -= len(source["text"]) + len(source["asked"])
        if most_chars < 0:
            break
        kept.append((number, source))
    return dict(reversed(kept))


def _support(words: set[str], passage: set[str], asked: set[str]) -> float:
    """Return the share of a sentence's words that the passage contains; 0 if that is too little evidence."""
    new = words - asked
    shared = words & passage
    if not new or len(shared) < _SHARE * len(words) or len(new & passage) < min(_NEW, len(new)):
        return 0.0
    return len(shared) / len(words)


def _content(text: str) -> set[str]:
    """Return the content words of a text, without endings and diacritics."""
    bare = "".join(char for char in unicodedata.normalize("NFD", fold(text)) if not unicodedata.combining(char))
    plain = unicodedata.normalize("NFC", bare)  # makes a Hangul syllable one character again
    return {word[:_STEM_CHARS] for word in _WORD.findall(plain.casefold()) if _is_content(word)}


def _is_content(word: str) -> bool:
    return len(word) >= _CONTENT_CHARS or any(char.isdigit() for char in word) or unicodedata.category(word[0]) == "Lo"
