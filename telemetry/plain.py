"""Makes untrusted text safe to show on a terminal and in a log line.

Invariant: the result contains no character that moves the cursor, changes colors, ends a line or changes the writing
direction. It stays readable: each such character is replaced by an escape.
"""

from typing import Final

__all__ = ["plain"]

_HARMLESS: Final = frozenset("\u00a0\u200c\u200d\u202f\u3000")
"""Spaces and joiners that occur in names, and that Python does not count as printable."""


def plain(text: str) -> str:
    """Return the text with every control, format and unassigned character escaped, including line ends."""
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() or each in _HARMLESS else _escape(each) for each in text])


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
