"""Ids in OpenAI's form: a prefix, `_` (`-` for files) and 24 alphanumerics.

New ids begin with the time. Objects created together are thus adjacent in every index of the store, and a commit writes
fewer pages than with random ids.

Ids of a run's own messages, steps and calls are *derived* from the run's id and their position in the run. A reply that
is generated again after a crash thus gets the same ids, even if no row has survived.
"""

import hashlib
import os
import secrets
import time
from functools import lru_cache
from typing import Final, Literal

__all__ = ["DEFAULT_OWNER", "Prefix", "derive_id", "new_id"]

DEFAULT_OWNER: Final = "default"
"""Owner of everything that is created while no keys are set."""

Prefix = Literal[
    "asst",
    "thread",
    "msg",
    "run",
    "step",
    "call",
    "fc",
    "fco",
    "fs",
    "rs",
    "vs",
    "vsfb",
    "file",
    "upload",
    "part",
    "req",
]

_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 24
_LETTERS = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
"""A letter for each byte. Eight letters are slightly more likely; over 100 random bits remain, besides the time."""
_TIMED: Final = 6
"""Letters for the time in sixteenths of a second, enough until 2082. A finer resolution would gain nothing."""
_RANDOM: Final = _LENGTH - _TIMED

_DRAWN: Final = 64
"""Ids whose random bytes are requested together: the system call costs five times the rest."""
_drawn: Final[list[bytes]] = []
os.register_at_fork(after_in_child=_drawn.clear)


def new_id(prefix: Prefix) -> str:
    """Return a unique id, such as `thread_` and 24 alphanumerics: letters for the time, then random letters.

    Later ids sort later, except within the same sixteenth of a second.
    """
    try:
        drawn = _drawn.pop()
    except IndexError:
        block = secrets.token_bytes(_RANDOM * _DRAWN)
        drawn, *more = (block[start : start + _RANDOM] for start in range(0, len(block), _RANDOM))
        _drawn.extend(more)
    return _join_id(prefix, _letters_of(int(time.time() * 16)) + drawn.translate(_LETTERS))


def derive_id(prefix: Prefix, *place: str | int) -> str:
    """Return the id for `place`, such as a run id and positions in the run; the same place always gets the same id."""
    digest = hashlib.sha256("\x1f".join(map(str, (prefix, *place))).encode()).digest()
    return _join_id(prefix, digest[:_LENGTH].translate(_LETTERS))


@lru_cache(maxsize=1)
def _letters_of(sixteenths: int) -> bytes:
    letters = bytearray()
    for _ in range(_TIMED):
        sixteenths, letter = divmod(sixteenths, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return bytes(reversed(letters))


def _join_id(prefix: str, letters: bytes) -> str:
    return f"{prefix}{'-' if prefix == 'file' else '_'}{letters.decode()}"
