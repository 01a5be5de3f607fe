"""JSON as text: escapes are decoded, so that words can be found; brackets, keys and order stay as they are.

JSON is not parsed, so that huge or broken files and JSON Lines are read as well.
"""

import re
from typing import Final

__all__ = ["decode_escapes"]

_STRING: Final = re.compile(r'"[^"\\\n]*(?:\\.[^"\\\n]*)+"')
_ESCAPE: Final = re.compile(r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))")
_SPACES: Final = {"n": "\n", "r": "\r", "t": "\t", "b": " ", "f": " ", "/": "/"}


def decode_escapes(text: str) -> str:
    """Decode the escapes in JSON strings, except those that keep the strings apart: quotes and backslashes."""
    if "\\" not in text:
        return text
    return _STRING.sub(lambda found: _ESCAPE.sub(_decode, found[0]), text)


def _decode(found: re.Match[str]) -> str:
    high, low, unit, letter = found.groups()
    if high:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00))
    if unit:
        code = int(unit, 16)
        if code in (0x22, 0x5C) or 0xD800 <= code <= 0xDFFF:
            return found[0]
        return chr(code) if code >= 0x20 else " "
    return _SPACES.get(letter, found[0])
