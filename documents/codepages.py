"""Guesses the code page of text that is not UTF-8, from the whole text, not only its beginning.

A detector alone takes short Western texts for Greek or Macintosh Icelandic, so the decision has two steps. If the
commonest Latin code pages give words of one European language, the commonest of these code pages is chosen. Otherwise
the detector (chardet, limited to the usual code pages) decides. Extra rules correct its weaknesses: katakana, words in
capitals, and words that no script spells that way.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Final
from unicodedata import category

__all__ = ["SUPERSETS", "collect_sample", "guess_encoding", "reads_as_western"]

_LATIN: Final = ("cp1252", "cp1250", "cp1254", "cp1257", "iso8859-15", "iso8859-2", "cp850", "cp437", "mac-roman")
"""Commonest first."""
_OTHERS: Final = (
    *("cp1251", "koi8-r", "koi8-u", "cp866", "mac-cyrillic", "iso8859-5", "cp1253", "iso8859-7", "cp1255", "cp1256"),
    *("cp874", "gb18030", "big5", "cp932", "euc-jp", "cp949", "cp852"),
)
_JAPANESE: Final = ("cp932", "euc-jp")
"""Tried before the detector, which misses katakana."""
_CASED: Final = ("cp1251", "koi8-r", "koi8-u", "cp866", "iso8859-5", "cp1253", "iso8859-7")
"""Code pages of non-Latin scripts with capitals."""
_MIN_CAPITALS: Final = 5
_RARE: Final = {"mac-cyrillic": 0.5, "iso8859-5": 0.5, "iso8859-7": 0.9}
"""Factors on the detector's confidence in code pages that have a commoner rival with the same letters."""
SUPERSETS: Final = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "shift_jis_2004": "cp932",
    "euc_jis_2004": "euc-jp",
    "euc_kr": "cp949",
    "big5hkscs": "big5hkscs",
    "big5": "big5hkscs",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "ascii": "cp1252",
    "tis_620": "cp874",
}
"""Python's name of an encoding → the encoding that has all of its characters and those that programs add to it."""

_LANGUAGES: Final[dict[str, tuple[str, ...]]] = {
    "western": (
        *("äöüßéèàâç", "àâæçéèêëîïôœùûüÿ", "áéíñóúüªº", "àçèéíïòóúü·ªº", "áâãàçéêíóôõúüªº", "àèéìîòóùª", "éëïöüó"),
        *("åäöæøéèüô", "äöåšžõüé", "áðéíóúýþæö", "áéíóúàâêîôûŵŷ"),
    ),
    "central": ("ąćęłńóśźżé", "áčďéěíňóöřšťúůüýž", "áäčďéíĺľňóôöŕšťúüýž", "áéíóöőúüű", "ăâîşţé", "čćđšž", "äöüßé"),
    "turkish": ("çğıöşüâîûİ",),
    "baltic": ("ąčęėįšųūžé", "āčēģīķļņšūžōŗ", "äöüõšž"),
}
_FAMILY: Final = {"cp1250": "central", "iso8859-2": "central", "cp1254": "turkish", "cp1257": "baltic"}

_MAX_RUN: Final = {"western": 2, "central": 4, "turkish": 3, "baltic": 3}
"""Maximum consecutive non-ASCII letters; the words of other scripts have more."""

_WORD: Final = re.compile(rb"[A-Za-z0-9'\x80-\xff]*[\x80-\xff][A-Za-z0-9'\x80-\xff]*")
_TEXT_WORD: Final = re.compile(r"[A-Za-z0-9'\x80-\U0010ffff]*[\x80-\U0010ffff][A-Za-z0-9'\x80-\U0010ffff]*")
_FEW_STRANGE: Final = 0.05
_LINE: Final = re.compile(rb"[^\n]{1,2000}")
_MAX_WORDS: Final = 20_000
_MAX_READ: Final = 4_000_000
_MAX_SAMPLE: Final = 150_000
"""Approximate number of bytes that the detector examines, taken evenly from the whole text."""
_PIECES: Final = re.compile(r"[^\W\d_²³¹¼½¾ªº]+|\d+|[²³¹¼½¾ªº]+|[^\w\s]+|_+|\s+")
_PUNCTUATION: Final = frozenset("“”„‘’‚«»‹›–—…•·¡¿\u00a0")
_AFTER_LETTERS: Final = frozenset("®™°’“”„‘‚«»‹›–—…·€×\u00a0\u00ad")
_ELISION: Final = frozenset("’·–—×\u00a0\u00ad")
_UNITS: Final = frozenset(["m", "mm", "cm", "dm", "km", "ft", "in", "s"])
_KNOWN: Final = _PUNCTUATION | _AFTER_LETTERS | frozenset("²³ªº£§©±÷µ¢¥¶†‡‰¼½¾→←≤≥≠≈∞√")
_LINES: Final = re.compile(r"[\u2502\u2551]|.?(?:([\u2500\u2550\u2588\u2591\u2592\u2593])\1+[\u2500-\u259f]?)+")
"""Tables and bars that DOS programs draw."""
_NOT_WESTERN: Final = re.compile("ñ(?![aeiouáéíóúü])|œ(?![cdilnstu])", re.IGNORECASE)
"""Polish words with "ń" and "ś", read as windows-1252."""
_KANA: Final = re.compile("[\u3041-\u3096\u30a1-\u30fc]")
_HALF_WIDTH: Final = re.compile("[\uff61-\uff9f]")
_LATIN_KANA: Final = re.compile("[A-Za-z][\u3041-\u30fc]|[\u3041-\u30fc][A-Za-z]")
_MIXED: Final = re.compile(r"[A-Za-z][^\x00-\u024f]|[^\x00-\u024f][A-Za-z]|\ufffd|[ךםןףץ][א-ת]|[\u05f0-\u05f2]")
"""Mixed scripts, Hebrew final letters within a word, and the letters of Yiddish."""
_ASCII: Final = re.compile(r"[\x00-\x7f]")
_MAX_IMPLAUSIBLE_SHARE: Final = 0.3
"""Maximum share of implausible words for a text to be in the Latin script."""
_TIE: Final = 0.02
_SURER: Final = 2.0
"""Factor by which the detector's confidence in a rarer code page must exceed that in windows-1252 (plus `_MARGIN`)."""
_MARGIN: Final = 0.004
_MIN_SURE: Final = 0.03
_MUCH_SURER: Final = 10.0
"""The detector's confidence in an East Asian code page must exceed `_MIN_SURE`, and this many times its confidence in
Latin ones."""
_TURKISH: Final = 0.7
"""The same factor for Turkish if its letters would be Nordic: Turkish is commoner than Icelandic."""
_NORDIC: Final = frozenset("ðþýÐÞÝ")
"""At the codes of these in windows-1252, Turkish and Baltic code pages have much commoner letters."""
_RIVALS: Final = frozenset({"cp1250", "cp1254", "cp1257", "iso8859-2"})
"""Code pages in which the same bytes can be plausible words; with those of DOS and Macintosh, only one gives words."""


def guess_encoding(data: bytes) -> str:
    """Return Python's name of the encoding that fits `data` best; some bytes may be invalid even in that."""
    sample = collect_sample(data, _MAX_READ)
    words = _collect_words(sample)
    strange = {encoding: _implausible(words, encoding) for encoding in _LATIN}
    minimum = min(strange.values())
    if strange["cp1252"] == 0 and not any(_has_letters(word) for word in words):
        return "cp1252"  # only signs, as in "5 €" and "20 °C"
    for encoding in _JAPANESE:
        if _has_kana(sample.decode(encoding, "replace")):
            return encoding
    sure = _detect(collect_sample(sample))
    if minimum <= _MAX_IMPLAUSIBLE_SHARE and not _is_east_asian(sure):
        nordic = any(_NORDIC.intersection(word.decode("cp1252", "replace")) for word in words)
        alike = [name for name in _LATIN if strange[name] <= minimum + _TIE]
        return _choose_latin(alike, sure, nordic)
    sure |= _detect_capitals(words)
    others = {
        name: confidence * _RARE.get(name, 1.0) for name, confidence in sure.items() if _is_other_script(name, words)
    }
    if not others:
        return min(_LATIN, key=lambda name: strange[name])
    best = max(others, key=lambda name: others[name])
    return SUPERSETS.get(best, best)


def reads_as_western(text: str) -> bool:
    """Return whether the non-ASCII words are those of Western European languages."""
    words = Counter(found[0] for found in _TEXT_WORD.finditer(text))
    strange = sum(count for word, count in words.items() if not _is_western(word))
    return strange <= _FEW_STRANGE * words.total()


def _is_western(word: str) -> bool:
    if min(letter for letter in word if letter > "\x7f") >= "\u0800":
        return True  # three bytes rarely form a valid character by chance
    letters = {letter for letter in word.lower() if letter > "\x7f" and letter.isalpha()}
    return _is_plausible_text(word, _MAX_RUN["western"]) and any(
        letters <= {*some, "µ"} for some in _LANGUAGES["western"]
    )


def _is_east_asian(sure: dict[str, float]) -> bool:
    """Return whether the detector finds double-byte characters and hardly anything Latin."""
    latin, eastern = (
        max((sure.get(name, 0.0) for name in names), default=0.0) for names in (_LATIN_NAMES, _EAST_ASIAN)
    )
    return eastern > max(_MIN_SURE, _MUCH_SURER * latin)


def _is_other_script(name: str, words: Counter[bytes]) -> bool:
    """Return whether most words have one script each; East Asian text, which adjoins Latin letters, is exempt."""
    if name in _LATIN_NAMES:
        return False
    if name in _EAST_ASIAN:
        return True
    odd = sum(count for word, count in words.items() if _is_odd(word.decode(name, "replace")))
    return odd <= _MAX_IMPLAUSIBLE_SHARE * words.total()


def _is_odd(word: str) -> bool:
    """Return whether a word mixes scripts, or has capitals or signs between letters."""
    if _MIXED.search(word):
        return True
    for found in _PIECES.finditer(word):
        piece, inside = found[0], word[: found.start()][-1:].isalpha() and word[found.end() :][:1].isalpha()
        if piece.isalpha():
            if piece[1:] != piece[1:].lower() and piece != piece.upper():
                return True
        elif inside and any(category(sign).startswith("S") for sign in piece):
            return True
    return False


def _choose_latin(alike: list[str], sure: dict[str, float], nordic: bool) -> str:
    """Choose from equally plausible code pages: the commonest, unless the detector clearly prefers a rival."""
    first = alike[0]
    western = max(sure.get(_plain(name), 0.0) for name in (first, "iso8859-15"))  # a stray byte can exclude the first
    floors = dict.fromkeys(_RIVALS, western * (1.0 if nordic else _SURER) + _MARGIN)
    if nordic:
        floors["cp1254"] = western * _TURKISH
    better = [name for name in alike[1:] if name in floors and sure.get(_plain(name), 0.0) > floors[name]]
    return max(better, key=lambda name: sure[_plain(name)]) if better else first


def _detect(sample: bytes) -> dict[str, float]:
    """Return the detector's confidence in each encoding, keyed by Python's name."""
    import chardet

    found = chardet.detect_all(
        sample,
        include_encodings=(*_LATIN, *_OTHERS),
        ignore_threshold=True,
        compat_names=False,
        empty_input_encoding="cp1252",
    )
    confidences: dict[str, float] = {}
    for result in found:
        if result["encoding"]:
            confidences.setdefault(_plain(result["encoding"]), result["confidence"])
    return confidences


def _detect_capitals(words: Counter[bytes]) -> dict[str, float]:
    """Return the detector's confidence, for the words in lower case, in code pages in which all words are capitals.

    The detector handles capitals badly: it takes a headline in Russian for Greek or Chinese.
    """
    confidences: dict[str, float] = {}
    for name in _CASED:
        texts = [word.decode(name, "replace") for word in words]
        letters = "".join(letter for text in texts for letter in text if letter > "\x7f" and letter.isalpha())
        if len(letters) >= _MIN_CAPITALS and letters == letters.upper():
            lower = b"\n".join(text.lower().encode(name, "replace") for text in texts)
            confidences[_plain(name)] = _detect(lower[:_MAX_SAMPLE]).get(_plain(name), 0.0)
    return confidences


def _has_kana(text: str) -> bool:
    """Return whether a text is Japanese: it has much kana, which rarely adjoins Latin letters."""
    kana = len(_KANA.findall(text))
    beyond = len(text) - len(_ASCII.findall(text))
    strange = text.count("\ufffd") + len(_HALF_WIDTH.findall(text))
    return (
        kana > _MAX_IMPLAUSIBLE_SHARE * beyond
        and strange <= _FEW_STRANGE * beyond
        and len(_LATIN_KANA.findall(text)) <= _MAX_IMPLAUSIBLE_SHARE * kana
    )


@cache
def _plain(name: str) -> str:
    import codecs

    return codecs.lookup(name).name


_EAST_ASIAN: Final = frozenset(_plain(name) for name in ("gb18030", "big5", "cp932", "euc-jp", "cp949", *SUPERSETS))
_LATIN_NAMES: Final = frozenset(_plain(name) for name in (*_LATIN, "iso8859-1", "cp852"))


def _collect_words(data: bytes) -> Counter[bytes]:
    """Return the words with non-ASCII bytes and how often they occur."""
    words: Counter[bytes] = Counter()
    for found in _WORD.finditer(data):
        word = found[0]
        if len(words) < _MAX_WORDS or word in words:
            words[word[:64]] += 1
    return words


def collect_sample(data: bytes, max_bytes: int = _MAX_SAMPLE) -> bytes:
    """Return lines with non-ASCII bytes, evenly from the whole text: they reveal most about its encoding."""
    lines = (found[0] for found in _LINE.finditer(data))
    strange = list(dict.fromkeys(line for line in lines if not line.isascii()))  # repetition misleads the detector
    step = max(1, sum(map(len, strange)) // max_bytes)
    return b"\n".join(strange[::step])


# --- words of Latin scripts -----------------------------------------------------------------------------------------


def _implausible(words: Counter[bytes], encoding: str) -> float:
    """Return the share of words that are implausible in the code page's languages, of which the best-fitting counts."""
    family = _FAMILY.get(encoding, "western")
    languages = [frozenset(letters + letters.upper() + "µ") for letters in _LANGUAGES[family]]
    strange, misfits = 0, [0] * len(languages)
    total = 0
    for word, count in words.items():
        total += count
        text = word.decode(encoding, "replace")
        if not _is_plausible_text(text, _MAX_RUN[family]) or (family == "western" and _NOT_WESTERN.search(text)):
            strange += count
            continue
        letters = frozenset(letter for letter in text if letter > "\x7f" and letter.isalpha())
        for index, language in enumerate(languages):
            if not letters <= language:
                misfits[index] += count
    # Files often have several languages, so a misfit with one language counts half, and an implausible word in full.
    return (strange + min(misfits) / 2) / total if total else 1.0


def _has_letters(word: bytes) -> bool:
    return any(
        letter > "\x7f" and letter.isalpha() and letter not in "ªµº" for letter in word.decode("cp1252", "replace")
    )


@dataclass(frozen=True, slots=True)
class _Part:
    text: str
    letters: bool


def _is_plausible_text(text: str, longest_run: int) -> bool:
    """Return whether the order of a word's letters and signs is plausible in European languages."""
    if "\u2500" <= max(text) <= "\u259f" and _LINES.fullmatch(text):
        return True
    parts = [_Part(found[0], found[0][0].isalpha() and found[0][0] not in "ªº") for found in _PIECES.finditer(text)]
    return all(
        _is_plausible(part.text, longest_run) if part.letters else _placed(parts, index)
        for index, part in enumerate(parts)
    )


def _is_plausible(word: str, longest_run: int) -> bool:
    """Return whether few consecutive letters are non-ASCII, and only the first or all letters are capitals."""
    longest = max(map(len, _ASCII.split(word)))
    if longest > longest_run or 3 < len(word) == longest:
        return False
    tail = word[1:]
    return tail == tail.lower() or word.replace("ß", "S") == word.replace("ß", "S").upper() or _ascii_case(word)


def _ascii_case(word: str) -> bool:
    """Return whether only ASCII letters are capitals within the word, as in names of products."""
    return not any(letter > "\x7f" and letter.isupper() for letter in word[1:])


def _placed(parts: list[_Part], index: int) -> bool:
    """Return whether the signs are known, few in a row, and next to characters to which they belong."""
    signs = [sign for sign in parts[index].text if sign > "\x7f"]
    if any(sign not in _KNOWN for sign in signs) or (len(set(signs)) > 1 and not _is_punctuation(signs)):
        return False
    before = parts[index - 1].text if index > 0 else ""
    after = index + 1 < len(parts) and parts[index + 1].letters
    return all(_placed_sign(sign, before, after) for sign in signs)


def _is_punctuation(signs: list[str]) -> bool:
    return len(set(signs)) == 2 and _PUNCTUATION.issuperset(signs)


def _placed_sign(sign: str, before: str, after: bool) -> bool:
    if sign in "²³":
        return before.isdigit() or before.lower() in _UNITS
    if sign in "ªº":
        return before[-1:].isalnum() and not after
    if sign in "¡¿":
        return not before[-1:].isalnum()
    if not before[-1:].isalpha():
        return True
    return sign in (_ELISION if after else _AFTER_LETTERS)
