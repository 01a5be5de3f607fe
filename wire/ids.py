"""Ids as OpenAI makes them: a prefix and 24 alphanumerics.

Ids of a run's own messages, steps and calls are *derived* from the run's id and their place in the run, so that a
reply that is generated anew after a crash gets the same ids although no row may have survived.
"""

import hashlib
import secrets
from typing import Literal

__all__ = ["Prefix", "derive_id", "new_id"]

Prefix = Literal["asst", "thread", "msg", "run", "step", "call", "vs", "vsfb", "req"]

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 24


def new_id(prefix: Prefix) -> str:
    """Return a random id, e.g. `thread_` and 24 alphanumerics (142 bits)."""
    return _spell(prefix, secrets.randbits(256))


def derive_id(prefix: Prefix, *place: str | int) -> str:
    """Return the id that belongs to `place` (a run id and positions in it): same place, same id."""
    digest = hashlib.sha256("\x1f".join(map(str, (prefix, *place))).encode()).digest()
    return _spell(prefix, int.from_bytes(digest))


def _spell(prefix: str, number: int) -> str:
    letters = []
    for _ in range(_LENGTH):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return f"{prefix}_{''.join(letters)}"
