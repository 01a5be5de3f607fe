"""Ids as OpenAI makes them: a prefix, `_` (`-` for files) and 24 alphanumerics.

New ids begin with the time, so that objects created together lie together in every index of the store, and a commit
writes fewer pages than with random ids.

Ids of a run's own messages, steps and calls are *derived* from the run's id and their place in the run, so that a
reply that is generated anew after a crash gets the same ids although no row may have survived.
"""

import hashlib
import os
import secrets
import time
from functools import lru_cache
from typing import Final, Literal

__all__ = ["DEFAULT_OWNER", "Prefix", "derive_id", "new_id"]

DEFAULT_OWNER: Final = "default"
"""Owner of everything that is made where there are no keys."""

Prefix = Literal["asst", "thread", "msg", "run", "step", "call", "vs", "vsfb", "file", "upload", "part", "req"]

_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 24
_LETTERS = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
"""A letter for each byte; eight of them are a little likelier, which leaves over 100 bits beside the time."""
_TIMED: Final = 6
"""Letters for the time in sixteenths of a second: till 2082. Nothing is gained by finer ones."""
_RANDOM: Final = _LENGTH - _TIMED

_DRAWN: Final = 64
"""Ids whose bytes are drawn at a time: asking the system costs five times the rest."""
_drawn: Final[list[bytes]] = []
os.register_at_fork(after_in_child=_drawn.clear)


def new_id(prefix: Prefix) -> str:
    """Return an id of its own, e.g. `thread_` and 24 alphanumerics: letters of the time, then letters of chance.

    What is made later sorts later, but for what is made in the same sixteenth of a second.
    """
    try:
        drawn = _drawn.pop()
    except IndexError:
        block = secrets.token_bytes(_RANDOM * _DRAWN)
        drawn, *more = (block[start : start + _RANDOM] for start in range(0, len(block), _RANDOM))
        _drawn.extend(more)
    return _spell(prefix, _letters_of(int(time.time() * 16)) + drawn.translate(_LETTERS))


def derive_id(prefix: Prefix, *place: str | int) -> str:
    """Return the id that belongs to `place` (a run id and positions in it): same place, same id."""
    digest = hashlib.sha256("\x1f".join(map(str, (prefix, *place))).encode()).digest()
    return _spell(prefix, digest[:_LENGTH].translate(_LETTERS))


@lru_cache(maxsize=1)
def _letters_of(sixteenths: int) -> bytes:
    letters = bytearray()
    for _ in range(_TIMED):
        sixteenths, letter = divmod(sixteenths, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return bytes(reversed(letters))


def _spell(prefix: str, letters: bytes) -> str:
    return f"{prefix}{'-' if prefix == 'file' else '_'}{letters.decode()}"
