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

from store.folding import fold, without_long_marks

__all__ = ["Source", "supporting_passages"]

_MAX_PASSAGES: Final = 3
"""Maximum passages cited for one answer; more would not help a reader."""

_MAX_WEIGHT: Final = 200_000
"""Maximum weight of an answer and its passages that are compared, see `_weigh`: a quarter of a second. The latest
searches take precedence."""
_MAX_COMPARED: Final = 20_000
"""Maximum sentences times passages: another 30 ms. The rest of the answer is not examined."""
_NON_ASCII_WEIGHT: Final = 3
"""What a character beyond ASCII weighs more: in a script without spaces, each is a word."""
_BLOCK: Final = 1000

_SHARE: Final = 0.6
_NEW: Final = 2
_WORD: Final = re.compile("[\\w\U000f0000-\U000ffffd]+")
"""The private-use characters are marks that `fold` keeps."""

_MARKS: Final = re.compile("[^\\w\\s\0-\x7f]+")
"""Marks, format characters and signs: `\\w` matches no marks."""

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
    answer, weight = _shorten(answer, _MAX_WEIGHT)
    passages = {
        number: (_content(source["text"]), _content(source["asked"]))
        for number, source in _latest(sources, _MAX_WEIGHT - weight // 2).items()
    }
    found: dict[str, None] = {}
    left = _MAX_COMPARED
    for sentence in _SENTENCE.split(answer):
        words = _content(sentence)
        left -= len(passages) if words else 0
        if left < 0 or len(found) >= _MAX_PASSAGES:
            break
        rated = [(_support(words, passage, asked), number) for number, (passage, asked) in passages.items()]
        best, number = max(rated, key=lambda each: each[0], default=(0.0, ""))
        if best > 0:
            found[number] = None
    return list(found)[:_MAX_PASSAGES]


def _shorten(text: str, maximum: int) -> tuple[str, int]:
    """Return the start of a text, with a weight of at most `maximum`, and this weight."""
    weight = 0
    for start in range(0, len(text), _BLOCK):
        added = _weigh(text[start : start + _BLOCK])
        if weight + added > maximum:
            return text[:start], weight
        weight += added
    return text, weight


def _weigh(text: str) -> int:
    """Return what the comparison of a text costs. Folding makes up to 18 characters of one, so these are counted."""
    if text.isascii():
        return len(text)
    whole = unicodedata.normalize("NFKC", without_long_marks(text))
    return len(whole) + _NON_ASCII_WEIGHT * (len(whole) - len(whole.encode("ascii", "ignore")))


def _latest(sources: Mapping[str, Source], maximum: int) -> dict[str, Source]:
    """Return the last sources that weigh at most `maximum` in total, in their order."""
    kept: list[tuple[str, Source]] = []
    for number, source in reversed(list(sources.items())):
        maximum -= _weigh(source["text"]) + _weigh(source["asked"])
        if maximum < 0:
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
    bare = _MARKS.sub(lambda found: _without_combining(found.group()), unicodedata.normalize("NFD", fold(text)))
    plain = unicodedata.normalize("NFC", bare)  # makes a Hangul syllable one character again
    return {word[:_STEM_CHARS] for word in _WORD.findall(plain.casefold()) if _is_content(word)}


def _is_content(word: str) -> bool:
    return len(word) >= _CONTENT_CHARS or unicodedata.category(word[0]) == "Lo" or any(map(str.isdigit, word))


def _without_combining(marks: str) -> str:
    return "".join(mark for mark in marks if not unicodedata.combining(mark))
