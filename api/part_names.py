"""The field name and the file name in the headers of a form's part, in every form that clients send.

RFC 7578 requires a plain `filename` in UTF-8. Clients also send `filename*` (RFC 8187), encoded words (RFC 2047), names
in the system's code page, and names in `Content-Type`. OpenAI's own server accepts `filename*`.

Invariants: a file name in any of these forms is found. Bytes that cannot be decoded lose letters, never the whole name.
Headers have limited lengths and numbers of parameters, as the standard library takes quadratic time for them.
"""

import re
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from typing import Final

from wire.charsets import text_codec
from wire.errors import InvalidRequest

__all__ = ["MAX_HEADER_BYTES", "part_names"]

MAX_HEADER_BYTES: Final = 8 * 1024
"""Bytes of one header of a part: enough for the longest name in every form."""

_MAX_SEMICOLONS: Final = 300
"""In a header, those in quotes included: at each of them, the standard library counts the quotes before it."""

_ESCAPED: Final = re.compile(r"%(22|0[dD]|0[aA])")
_WORD: Final = r"=\?[^?\s]+\?[bBqQ]\?[^?]*\?="
_WORDS: Final = re.compile(rf"{_WORD}(?:\s*{_WORD})*")

_Value = str | tuple[str | None, str | None, str]


def part_names(disposition: bytes, content_type: bytes) -> tuple[str | None, str | None]:
    """Return the field name and the file name of a part, None where the headers have none.

    `disposition` and `content_type` are the values of the two headers. The first file name that is not blank wins:
    `filename*`, `filename`, then `name*` and `name` of `Content-Type`. It is decoded but not cleaned; see
    `wire.files.clean_filename`.

    Raises:
        InvalidRequest: The parameters contradict each other, or are too many.
    """
    plain, extended = _parameters("Content-Disposition", disposition)
    of_type, extended_of_type = _parameters("Content-Type", content_type)
    filenames = (
        extended.get("filename"),
        _file_name(plain.get("filename", "")),
        extended_of_type.get("name"),
        _file_name(of_type.get("name", "")),
    )
    return plain.get("name"), next((name for name in filenames if name and name.strip()), None)


def _parameters(header: str, value: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Return a header's plain and extended (`name*=charset''value`) parameters, both decoded.

    The standard library parses both, and the continuations of RFC 2231. Latin-1 passes the bytes through it unchanged.
    """
    if (count := value.count(b";")) > _MAX_SEMICOLONS:
        raise InvalidRequest(
            f"The header `{header}` of a part of the form has {count} semicolons; at most {_MAX_SEMICOLONS} are "
            "allowed."
        )
    message = Message()
    message[header] = value.decode("latin-1")
    try:
        read: list[tuple[str, _Value]] = message.get_params([], header)  # type: ignore[assignment] # typeshed: str only
    except (TypeError, ValueError):  # continuations with and without numbers, or with a number of 4,300 digits
        raise InvalidRequest(f"We could not parse the header `{header}` of a part of the form.") from None
    plain = {name: _guessed(value.encode("latin-1")) for name, value in read[1:] if isinstance(value, str)}
    extended = {name: _decoded(value[2], value[0]) for name, value in read[1:] if isinstance(value, tuple)}
    return plain, extended


def _decoded(value: str, charset: str | None) -> str:
    data = value.encode("latin-1")
    try:
        return data.decode(text_codec(charset or "utf-8") or "utf-8")
    except ValueError:  # the charset is unknown, or not the one that was used
        return _guessed(data)


def _guessed(data: bytes) -> str:
    """Decode text of unknown charset: as UTF-8, else as Windows-1252, which contains the letters of Latin-1."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _file_name(value: str) -> str:
    """Decode the escapes that browsers use (https://html.spec.whatwg.org/, multipart form data) and encoded words."""
    unescaped = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value)
    return _WORDS.sub(_unworded, unescaped)


def _unworded(found: re.Match[str]) -> str:
    """Decode adjacent encoded words; one character may span two of them. Words that cannot be decoded are kept."""
    try:
        pieces = decode_header(found[0])
        return "".join(each if isinstance(each, str) else _unworded_piece(each, charset) for each, charset in pieces)
    except (HeaderParseError, ValueError):
        return found[0]


def _unworded_piece(piece: bytes, charset: str | None) -> str:
    """Decode a piece of encoded words. Raises ValueError."""
    codec = text_codec((charset or "ascii").partition("*")[0])
    if codec is None:
        raise ValueError("the charset is unknown")
    return piece.decode(codec)
