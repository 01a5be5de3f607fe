"""Normalizes text for the full-text index: the same folding for passages, queries and grounding. Pure.

Invariant: texts that differ only in Unicode form, width, case, invisible characters or optional marks fold alike, and
ASCII text is left unchanged for the tokenizer of the index. If a script has no spaces between words, or none between a
stem and its endings, a word becomes overlapping pairs of characters, so that any part of it can be found. No query
needs a prefix search, which could match any number of words in the files of all owners.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Final

__all__ = [
    "FORM",
    "fold",
    "fold_passage",
    "fold_query",
    "fold_query_v2",
    "fold_v1",
    "fold_v2",
    "without_long_marks",
]

FORM: Final = 3
"""The number of the form that `fold_passage` writes. A file in the index records the form of its words. A change of the
folding needs a new number and a migration; `store.sqlite.reindexing` then rewrites what older versions stored."""

_KEPT_MARK: Final = 0xF0000
"""Marks that are part of the spelling move to this private-use plane. The tokenizer of the index treats private-use
characters as letters, but splits words at the marks themselves."""

_MARK: Final = re.compile("[\U000f0000-\U000ffffd]")
_MARKS: Final = f"{_MARK.pattern}*"

_UNSPACED: Final = (
    "\u0e01-\u0e4f\u0e80-\u0eff\u0f40-\u0fff"  # Thai, Lao, Tibetan
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaadf\u1780-\u17ff"  # Myanmar, Tai Viet, Khmer
    "\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9df"  # Tai Le, New Tai Lue, Tai Tham, Balinese, Javanese
    "\u3005-\u3007\u3021-\u3035\u303b\u303c\u3041-\u30fa\u30fc-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # kana, Bopomofo
    "\u2e80-\u2fdf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    "\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff"  # Hangul
)
"""Scripts without spaces between words, and Hangul, which has none between a noun and its particles."""

_INFLECTED: Final = (
    "\u0904-\u0939\u0958-\u0dff\u1700-\u177f\u1900-\u194f\u1b80-\u1c4f"
    "\ua800-\ua82f\ua880-\ua8ff\ua930-\ua95f\uaa00-\uaa5f\uaae0-\uaaff\uabc0-\uabff"
)
"""Scripts of India and its neighbours: spaces between words, but endings joined to the stem."""

_RUN: Final = re.compile(f"((?:(?=[^\\W\\d_])[{_UNSPACED}]{_MARKS})+)|((?:(?=[^\\W\\d_])[{_INFLECTED}]{_MARKS})+)")
_IN_RUN: Final = re.compile(f"[{_UNSPACED}{_INFLECTED}]")
"""Detects quickly whether a text has a run at all."""

_FOUND_MARKS: Final = 4
"""Maximum marks of a single character in a query."""

_CHARACTER: Final = re.compile(f".{_MARKS}", re.DOTALL)
"""A character of a run with its marks."""

_JOINED_BY_NFKC: Final = re.compile(
    # No., TM and other signs; enclosed letters and numbers; enclosed ideographs
    "([\u2116\u2120-\u2122\u213b\u2460-\u24ff\u2776-\u2793\u3200-\u32ff\U0001f100-\U0001f1ff])"
    "|(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215f\u2189])"  # 1 1/2
    "|(?:(?<=[0-9])|(?<=[^\\W\\d_]{3}))(?=[\u00b2\u00b3\u00b9\u2070\u2074-\u2079])"  # footnotes, exponents; not m2
)
"""Places where NFKC would join two words into one."""

_MAY_JOIN: Final = re.compile(
    "[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2079\u2116-\u2122\u213b\u2150-\u215f\u2189\u2460-\u24ff\u2776-\u2793"
    "\u3200-\u32ff\U0001f100-\U0001f1ff]"
)
"""Detects quickly whether a text can have such a place."""

_MINOR: Final = re.compile("[^\\w\\s\0-\x7f]")
"""Marks, format characters and signs: `\\w` matches no marks."""

_MAX_MARKS: Final = 30
_TO_MARKS: Final = "\u0f73\u0f75\u0f81\u309b\u309c\uff9e\uff9f"
"""Characters that become combining marks when they are normalized."""
_LONG_RUN: Final = re.compile(rf"(?:[^\w\s\0-\x7f]|[{_TO_MARKS}]){{{_MAX_MARKS + 1},}}")
"""Where a character can have too many marks."""

_OPTIONAL_MARKS: Final = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # Latin, Greek, Cyrillic
    "\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u08ca-\u08ff\u0711\u0730-\u074a"  # Semitic
    "\u093c\u09bc\u0a3c\u0abc\u0b3c\u0c3c\u0cbc"  # nuktas of India
    "\u180b-\u180f\u3099\u309a\ufe00-\ufe0f\U000e0100-\U000e01ef]"  # variation selectors, voicing marks on their own
)

_JOINERS: Final = "\u0f0b\u0f0c\ufffe"
"""Signs within a word: Tibetan's between syllables, and the noncharacter that PDFium returns for a hyphen at a line's
end, which texts that older versions extracted contain."""

_LETTERS: Final = re.compile(
    "[\u00c6\u00d8\u00df\u00e6\u00f8\u0110\u0111\u0126\u0127\u0130-\u0131\u0141\u0142\u0152\u0153\u0166\u0167"
    "\u017f\u01e2\u01e3\u01fc-\u01ff\u02b9-\u02bf\u02c8\ua78b\ua78c"  # Latin, letters used as apostrophes
    "\u0370-\u03ff\u1f00-\u1fff\u0401\u0451\u0528-\u052f\u1c80-\u1c8f\u2c2f\ua698-\ua69b"  # Greek, Cyrillic
    "\u0622-\u0626\u0629\u0640\u0649\u0671\u06a9\u06c0-\u06c3\u06cc\u06d2\u06d3"  # Arabic
    "\u115f\u1160"  # fillers of Hangul
    "\u10a0-\u10ff\u13a0-\u13ff\u1c90-\u1cbf\uab70-\uabbf\u1e9e\ua790-\ua7ff"  # Georgian, Cherokee, more Latin
    "\U000104b0-\U000104ff\U00010570-\U000105bf\U00010c80-\U00010cff\U000118a0-\U000118df"
    "\U00016e40-\U00016e7f\U0001e900-\U0001e943]"
)
"""Letters that the tokenizer does not fold as Unicode's case folding does, and those of `_TRANSLITERATED`."""

_TRANSLITERATED: Final[Mapping[str, str]] = {
    **dict.fromkeys("\u02b9\u02ba\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\ua78b\ua78c", "'"),
    "æ": "ae",
    "œ": "oe",
    "ø": "o",
    "đ": "d",
    "ħ": "h",
    "\u0131": "i",  # dotless
    "ł": "l",
    "ŧ": "t",
    # Arabic as in Lucene's ArabicNormalizer and PersianNormalizer: tatweel, alef maqsura, ta marbuta, and the yeh, kaf
    # and heh of Persian and Urdu keyboards.
    "\u0640": "",
    "\u0649": "\u064a",
    "\u0629": "\u0647",
    "\u0671": "\u0627",
    "\u06a9": "\u0643",
    "\u06c1": "\u0647",
    "\u06c3": "\u0647",
    "\u06cc": "\u064a",
    "\u06d2": "\u064a",
    "\u06d5": "\u0647",
    "\u115f": "",
    "\u1160": "",
}
"""Letters that have no decomposition but are commonly typed in another way."""

_NASAL: Final = re.compile("[\u0919\u091e\u0923\u0928\u092e]\u094d(?=[\u0915-\u0939])")
"""A nasal before a consonant in Devanagari, which can be written as anusvara: Hindi's own name has both spellings."""

_ARABIC: Final = re.compile("[\u0627-\u064a]")
_ARTICLE: Final = re.compile("\\b[\u0648\u0641]?(?:[\u0628\u0643]?\u0627\u0644|\u0644\u0644)(?=[\u0621-\u064a]{3})")
"""The Arabic article and what is joined to it (and, so, in, as, to), as in Lucene's ArabicStemmer."""

_DIGIT: Final = re.compile("[^\\D0-9]")


def fold(text: str) -> str:
    """Return the text with every word of a pair script as pairs; a single character stays unchanged."""
    return _tokenize_runs(_normalize(text), _pair)


def fold_passage(text: str) -> str:
    """Return the text as the index stores it: as `fold` does, but each character of a script without spaces is also a
    token, so that a single character can be found. A character with marks becomes several tokens: with none of them,
    with the first one, with the first two, and so on, up to `_FOUND_MARKS`."""
    return _tokenize_runs(_normalize(text), _pair_and_start)


def fold_query(text: str) -> str:
    """Return the text as `fold` does; single characters of scripts without spaces keep at most `_FOUND_MARKS` marks."""
    return _tokenize_runs(_normalize(text), lambda run: _pair(run) if run[1:] else [run[0][: 1 + _FOUND_MARKS]])


def without_long_marks(text: str) -> str:
    """Return the text with at most 30 marks on a character, as in Unicode's Stream-Safe Text Format.

    Normalizing sorts marks by insertion: 90,000 of them on one character would block the interpreter for a minute.
    """
    return text if text.isascii() else _LONG_RUN.sub(lambda found: _with_few_marks(found.group()), text)


def _with_few_marks(run: str) -> str:
    kept: list[str] = []
    marks = 0
    for char in run:
        marks = marks + 1 if unicodedata.combining(char) or char in _TO_MARKS else 0
        if marks <= _MAX_MARKS:
            kept.append(char)
    return "".join(kept)


def _normalize(text: str) -> str:
    if text.isascii():
        return text.replace("\0", " ")  # SQLite would end the text at this character
    text = without_long_marks(text)
    if not unicodedata.is_normalized("NFKC", text):
        if _MAY_JOIN.search(text):
            text = _JOINED_BY_NFKC.sub(lambda found: f" {found.group()} ", text)
        text = unicodedata.normalize("NFKC", text.replace("\u309b", "\u3099").replace("\u309c", "\u309a"))
    text = _NASAL.sub("\u0902", text)
    text = _MINOR.sub(lambda found: _minor(found.group()), text)
    text = _LETTERS.sub(lambda found: _letter(found.group()), text)
    if _ARABIC.search(text):
        text = _ARTICLE.sub("", text)
    text = _DIGIT.sub(lambda found: str(unicodedata.digit(found.group())), text)
    return text.replace("\0", " ")


@lru_cache(maxsize=4096)
def _minor(char: str) -> str:
    """Return a mark as a letter; an empty text for an optional mark or an invisible character."""
    category = unicodedata.category(char)
    if category == "Cf" or char in _JOINERS or _OPTIONAL_MARKS.match(char):
        return ""
    return chr(_KEPT_MARK | (ord(char) & 0xFFFF)) if category[0] == "M" else char


@lru_cache(maxsize=4096)
def _letter(char: str) -> str:
    parts = unicodedata.normalize("NFKD", char.casefold())
    return "".join(_TRANSLITERATED.get(part, part) for part in parts if not unicodedata.combining(part))


def _tokenize_runs(text: str, tokenize_unspaced: Callable[[list[str]], list[str]]) -> str:
    """Return the text with each run, a list of characters with their marks, as tokens: pairs, or what
    `tokenize_unspaced` makes of a run of a script without spaces."""
    if not _IN_RUN.search(text):
        return text
    marked = _MARK.search(text) is not None

    def tokenize(found: "re.Match[str]") -> str:
        characters = _CHARACTER.findall(found.group()) if marked else list(found.group())
        tokens = _pair(characters) if found.group(1) is None else tokenize_unspaced(characters)
        return f" {' '.join(tokens)} "

    return _RUN.sub(tokenize, text)


def _pair(run: list[str]) -> list[str]:
    """Return each character with its marks, and the next one without, as an ending can change a vowel sign. A single
    character stays as it is."""
    return [first + second[0] for first, second in pairwise(run)] or run


def _pair_and_start(run: list[str]) -> list[str]:
    starts = [character[:stop] for character in run for stop in range(1, min(len(character), 1 + _FOUND_MARKS) + 1)]
    return [*starts, *_pair(run)] if run[1:] else starts


# --- former forms -------------------------------------------------------------------------------------------------

# The full-text index keeps no text, so the same folding is needed to delete words that are stored in a former form, and
# to find them until then. Never change these.


def fold_v2(text: str) -> str:
    """Return the text in form 2: each run of a script without spaces ends in its last character, so that every
    character starts a token."""
    return _tokenize_runs(_normalize(text), lambda run: [*_pair(run), run[-1]] if run[1:] else run)


def fold_query_v2(text: str) -> str:
    """Return the text as `fold` does, but a single character of a script without spaces gets a `*`, as a prefix.

    A `*` of the text itself becomes a space.
    """
    return _tokenize_runs(_normalize(text).replace("*", " "), lambda run: _pair(run) if run[1:] else [f"{run[0]}*"])


_UNSPACED_V1: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+"
)


def fold_v1(text: str) -> str:
    """Return the text in form 1."""
    return _UNSPACED_V1.sub(_pairs_v1, text).replace("\0", " ")


def _pairs_v1(found: "re.Match[str]") -> str:
    run = found.group()
    pairs = (run[at : at + 2] for at in range(max(1, len(run) - 1)))
    return f" {' '.join(pairs)} "
