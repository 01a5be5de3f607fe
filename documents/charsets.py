"""Decodes text files: by byte order mark, UTF-8, the declared encoding, then the code page that fits the whole text.

Invariant: no invalid byte is dropped silently; the note reports what was guessed or replaced.
"""

import codecs
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from documents.codepages import SUPERSETS, collect_sample, guess_encoding, reads_as_western
from documents.extraction_errors import invalid_file, unsupported_file

__all__ = ["Decoded", "decode"]

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE: Final = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_SAMPLE: Final = 64 * 1024
_PRINTABLE: Final = re.compile(rb"[\t\n\r -~]")
_MAX_PRINTABLE: Final = 0.75
"""Above this share of printable bytes, a text with zero bytes is not UTF-16, in which at most half are printable."""
_HIGH: Final = bytes(range(0x80, 0x100))
_DECLARATIONS: Final = (
    re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]+)"),
    re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE),
    re.compile(rb"^@charset \"([\w.:-]+)\""),
    re.compile(rb"^(?:[^\n]*\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*([\w.-]+)"),  # PEP 263
)
_ESCAPES: Final = (
    (re.compile(rb"\x1b\$[@B]|\x1b\(J|\x1b\$\(D"), "iso2022_jp_ext"),
    (re.compile(rb"\x1b\$\)C"), "iso2022_kr"),
)
_FEW: Final = 2.0
"""Least valid multi-byte characters per invalid byte for a text to be UTF-8."""
_WESTERN_FEW: Final = 0.25
"""The same if the result has European words. East Asian texts have up to 0.5 by chance, but not such words."""
_LINES_FEW: Final = 0.1
"""Least non-ASCII characters in the lines that are UTF-8, per non-ASCII byte in the other lines."""
_MIN_LETTERS: Final = 3
_CONTINUATIONS: Final = bytes(range(0x80, 0xC0))
_STRANGE: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\ufffd]")
_MAX_STRANGE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Decoded:
    """The text; `note` reports what was guessed or replaced, for the file's status."""

    text: str
    note: str | None = None


def decode(data: bytes) -> Decoded:
    """Decode a text file. Raises ExtractionError if the file is not text."""
    decoded = (
        _marked(data)
        or _utf8(data)
        or _wide(data)
        or _surrogates(data)
        or _declared(data)
        or _nearly_utf8(data)
        or _guessed(data)
    )
    text = decoded.text
    if not text and data:
        raise invalid_file("The file has a byte order mark but no complete character after it.")
    if _is_strange(text):
        raise unsupported_file("The file is not text.")
    return decoded


def _is_strange(text: str) -> bool:
    """Return whether a text begins with more control characters than real text has."""
    return len(_STRANGE.findall(text[:_SAMPLE])) > max(1, _MAX_STRANGE * min(len(text), _SAMPLE))


def _marked(data: bytes) -> Decoded | None:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _lenient(data[len(mark) :], encoding)
    return None


def _utf8(data: bytes) -> Decoded | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    if "\x1b" in text:
        for escape, encoding in _ESCAPES:
            if escape.search(data):
                return _strict(data, encoding) or Decoded(text)
    return None if "\x00" in text and _is_strange(text) else Decoded(text)


def _wide(data: bytes) -> Decoded | None:
    """Decode UTF-16 or UTF-32 without a mark, which zero bytes reveal, at least those of line ends and spaces."""
    sample = data[:_SAMPLE]
    if b"\x00" not in data or len(data) % 2 or len(_PRINTABLE.findall(sample)) > _MAX_PRINTABLE * len(sample):
        return None
    ascii_counts = {encoding: _count_ascii(sample, encoding) for encoding in _WIDE}
    best = max(ascii_counts, key=lambda encoding: ascii_counts[encoding])
    return _strict(data, best) if ascii_counts[best] else None


def _count_ascii(data: bytes, encoding: str) -> int:
    """Return how many characters are ASCII; 0 if many do not occur in text."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return 0
    odd = sum(unicodedata.category(letter) in ("Cn", "Co", "Cc") and letter not in "\t\r\n\f" for letter in text)
    return 0 if odd > _MAX_STRANGE * len(text) else sum(letter <= "\x7f" for letter in text)


def _declared(data: bytes) -> Decoded | None:
    """Decode with the encoding that the file declares, if every byte is valid in it."""
    for declaration in _DECLARATIONS:
        if found := declaration.search(data[:8192]):
            name = _web_name(found[1].decode("ascii", "replace"))
            return _strict(data, name) if name else None
    return None


def _web_name(label: str) -> str | None:
    """Return Python's name of the encoding that browsers use for a label; None for UTF-8 and unknown labels."""
    for name in (label, label.removeprefix("x-"), label.removeprefix("dos-")):
        try:
            found = codecs.lookup({"sjis": "cp932", "windows-874": "cp874"}.get(name.lower(), name)).name
        except LookupError:
            continue
        if found.startswith(("utf", "hex", "base64", "rot", "uu", "quopri", "zlib", "bz2", "idna", "punycode")):
            return None
        return SUPERSETS.get(found, found)
    return None


def _nearly_utf8(data: bytes) -> Decoded | None:
    """Decode UTF-8 with a few invalid bytes: another program's lines, or a character cut at the start or the end."""
    valid, invalid = _count_utf8(data)
    head, tail = _cut_lengths(data)
    if invalid == head + tail and (valid or (head == 0 and _ends_in_utf8(data, tail))):
        return _lenient(data[head : len(data) - tail], "utf-8", lost=invalid)
    sure = valid >= _FEW * invalid or (
        valid >= _WESTERN_FEW * invalid and reads_as_western(_lenient(collect_sample(data), "utf-8").text)
    )
    return _mixed(data) if valid and (sure or _has_utf8_lines(data)) else None


def _has_utf8_lines(data: bytes) -> bool:
    """Return whether some lines are entirely UTF-8 with European words, as if appended to an older file."""
    lines = [line for line in data.splitlines(keepends=True) if not line.isascii()]
    text = "".join(line.decode() for line in lines if not _is_invalid(line))
    others = sum(_count_high(line) for line in lines if _is_invalid(line))
    letters = sum(letter > "\x7f" for letter in text)
    return letters >= max(_MIN_LETTERS, _LINES_FEW * others) and reads_as_western(text)


def _mixed(data: bytes) -> Decoded:
    """Decode UTF-8 mixed with lines in another encoding; other invalid bytes are read as windows-1252."""
    lines = data.splitlines(keepends=True)
    not_utf8 = b"".join(line for line in lines if _is_not_utf8(line))
    name = guess_encoding(not_utf8) if not_utf8 else "cp1252"
    if name == "cp1252":
        return _lenient(data, "utf-8")
    read = _lenient(
        b"".join(line.decode(name, "replace").encode() if _is_not_utf8(line) else line for line in lines), "utf-8"
    )
    note = f"{_bytes(_count_high(not_utf8))} not valid {_label('utf-8')}; read as {_label(name)}."
    return Decoded(read.text, note if read.note is None else f"{note} {read.note}")


def _is_not_utf8(line: bytes) -> bool:
    valid, invalid = _count_utf8(line)
    return invalid > _FEW * valid


def _is_invalid(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def _count_utf8(data: bytes) -> tuple[int, int]:
    """Return the number of multi-byte characters and the number of invalid bytes."""
    kept = data.decode("utf-8", "ignore")
    return len(kept) - (len(data) - _count_high(data)), len(data) - len(kept.encode())


def _count_high(data: bytes) -> int:
    return len(data) - len(data.translate(None, _HIGH))


def _surrogates(data: bytes) -> Decoded | None:
    """Decode CESU-8, which databases and Java write: each UTF-16 unit in UTF-8, so that an emoji has six bytes."""
    try:
        return Decoded(data.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16"))
    except UnicodeDecodeError:
        return None


def _cut_lengths(data: bytes) -> tuple[int, int]:
    """Return how many bytes at the start are the rest of a cut character, and how many at the end begin one."""
    head = len(data[:3]) - len(data[:3].lstrip(_CONTINUATIONS))
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    decoder.decode(data[-4:])
    return head, len(decoder.getstate()[0])


def _ends_in_utf8(data: bytes, tail: int) -> bool:
    """Return whether a cut character is UTF-8, if the rest is ASCII: in windows-1252, it would be a capital after a
    lower-case letter."""
    before = data[-tail - 1 : -tail]
    return bool(before) and (tail > 1 or (data[-1:] in (b"\xc2", b"\xc3") and before.islower()))


def _guessed(data: bytes) -> Decoded:
    name = guess_encoding(data)
    decoded = _strict(data, name) or _lenient(data, name)
    note = f"The file is not UTF-8; its text was read as {_label(name)}."
    return Decoded(decoded.text, note if decoded.note is None else f"{note} {decoded.note}")


def _strict(data: bytes, encoding: str) -> Decoded | None:
    try:
        return Decoded(data.decode(encoding))
    except UnicodeDecodeError:
        return None


def _lenient(data: bytes, encoding: str, *, lost: int = 0) -> Decoded:
    """Decode with windows-1252 for invalid bytes, because most stray bytes are in that encoding.

    In UTF-16 and UTF-32, invalid bytes become U+FFFD. `lost` is the number of bytes that the caller has left out.
    """
    counts = {"read": 0, "lost": lost}

    def replace(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        some = error.object[error.start : error.end]
        text = "\ufffd" if encoding.startswith("utf-") and encoding != "utf-8" else some.decode("cp1252", "replace")
        counts["lost" if "\ufffd" in text else "read"] += len(some)
        return text, error.end

    codecs.register_error("threadhold", replace)
    text = data.decode(encoding, "threadhold")
    notes = []
    if counts["read"]:
        notes.append(f"{_bytes(counts['read'])} not valid {_label(encoding)}; read as windows-1252.")
    if counts["lost"]:
        notes.append(f"{_bytes(counts['lost'])} not valid {_label(encoding)}; left out or replaced by U+FFFD.")
    if not text.strip("\ufffd"):
        text = ""
    return Decoded(text, " ".join(notes) or None)


def _bytes(count: int) -> str:
    return "1 byte is" if count == 1 else f"{count} bytes are"


def _label(name: str) -> str:
    return re.sub(r"^cp(125\d)$", r"windows-\1", codecs.lookup(name).name.replace("_", "-"))
