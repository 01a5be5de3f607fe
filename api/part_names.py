"""The names in the head of a form's part: of its field, and of its file in every form that clients send.

RFC 7578 wants a plain `filename` in UTF-8. Clients also send `filename*` (RFC 8187), encoded words (RFC 2047), names in
the system's code page, and names in `Content-Type`. OpenAI's own server accepts `filename*`.

Invariant: a name that came in any of these forms is found, and undecodable bytes lose the name's letters at worst.
"""

import re
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from typing import Final

from wire.errors import InvalidRequest

__all__ = ["part_names"]

_ESCAPED: Final = re.compile(r"%(22|0[dD]|0[aA])")
_WORD: Final = r"=\?[^?\s]+\?[bBqQ]\?[^?]*\?="
_WORDS: Final = re.compile(rf"{_WORD}(?:\s*{_WORD})*")

_Value = str | tuple[str | None, str | None, str]


def part_names(disposition: bytes, content_type: bytes) -> tuple[str | None, str | None]:
    """Return the name of a part's field and of its file, None where the headers have none.

    `disposition` and `content_type` are the values of the two headers. The file's name is decoded, not cleaned: see
    `wire.files.clean_filename`. The first that is not blank wins: `filename*`, `filename`, then `name*` and `name` of
    `Content-Type`.

    Raises:
        InvalidRequest: The parameters contradict each other.
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
    """Return a header's parameters, and those in the extended notation (`name*=charset''value`), both decoded.

    The standard library reads both, and the continuations of RFC 2231. Latin-1 carries the bytes through it unchanged.
    """
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
        return data.decode(charset or "utf-8")
    except (LookupError, ValueError):  # an unknown charset, or another one than the header says
        return _guessed(data)


def _guessed(data: bytes) -> str:
    """Decode text whose charset nobody names: UTF-8, else Windows' Western code page, which contains Latin-1."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _file_name(value: str) -> str:
    """Undo the escapes of browsers (https://html.spec.whatwg.org/, multipart form data), and encoded words."""
    unescaped = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value)
    return _WORDS.sub(_unworded, unescaped)


def _unworded(found: re.Match[str]) -> str:
    """Decode encoded words side by side, of which a character may begin in one and end in the next; or keep them."""
    try:
        pieces = decode_header(found[0])
        return "".join(
            piece if isinstance(piece, str) else piece.decode((charset or "ascii").partition("*")[0])
            for piece, charset in pieces
        )
    except (HeaderParseError, LookupError, ValueError):
        return found[0]
