"""Text of strangers made safe to show: on a terminal, and in a line of the log.

Invariant: what comes out has no character that moves the cursor, changes colours, ends a line or turns the direction
of writing. It is readable: what is left out stands there as an escape.
"""

from typing import Final

__all__ = ["plain"]

_HARMLESS: Final = frozenset("\u00a0\u200c\u200d\u202f\u3000")
"""Spaces and joiners that names are written with, and that Python does not count as printable."""


def plain(text: str) -> str:
    """Return the text with every control, format and unassigned character escaped, line ends among them."""
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() or each in _HARMLESS else _escape(each) for each in text])


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
