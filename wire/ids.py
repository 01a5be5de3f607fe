"""Ids as OpenAI makes them: a prefix, `_` (`-` for files) and 24 alphanumerics.

Ids of a run's own messages, steps and calls are *derived* from the run's id and their place in the run, so that a
reply that is generated anew after a crash gets the same ids although no row may have survived.
"""

import hashlib
import os
import secrets
from typing import Final, Literal

__all__ = ["DEFAULT_OWNER", "Prefix", "derive_id", "new_id"]

DEFAULT_OWNER: Final = "default"
"""Owner of everything that is made where there are no keys."""

Prefix = Literal["asst", "thread", "msg", "run", "step", "call", "vs", "vsfb", "file", "req"]

_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 24
_LETTERS = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
"""A letter for each byte; eight of them are a little likelier, which leaves over 140 bits."""


_DRAWN: Final = 64
"""Ids whose bytes are drawn at a time: asking the system costs five times the rest."""
_drawn: Final[list[bytes]] = []
os.register_at_fork(after_in_child=_drawn.clear)


def new_id(prefix: Prefix) -> str:
    """Return a random id, e.g. `thread_` and 24 alphanumerics."""
    try:
        drawn = _drawn.pop()
    except IndexError:
        block = secrets.token_bytes(_LENGTH * _DRAWN)
        drawn, *more = (block[start : start + _LENGTH] for start in range(0, len(block), _LENGTH))
        _drawn.extend(more)
    return _spell(prefix, drawn)


def derive_id(prefix: Prefix, *place: str | int) -> str:
    """Return the id that belongs to `place` (a run id and positions in it): same place, same id."""
    digest = hashlib.sha256("\x1f".join(map(str, (prefix, *place))).encode()).digest()
    return _spell(prefix, digest[:_LENGTH])


def _spell(prefix: str, drawn: bytes) -> str:
    return f"{prefix}{'-' if prefix == 'file' else '_'}{drawn.translate(_LETTERS).decode()}"
