"""Removes an upstream's credentials from what it sends: errors often quote the key that was refused.

A secret is found verbatim, with JSON's escaped slashes (also where the backslash itself is escaped), and
percent-encoded. Secrets of fewer than four characters are not removed, because they would match ordinary text.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

from wire.errors import RunError

__all__ = ["BlockRedactor", "redact", "redact_bytes", "redact_error", "spellings"]

_SHORTEST: Final = 4
_MASK: Final = "***"


def spellings(secrets: Iterable[str | None]) -> tuple[str, ...]:
    """Return the spellings of these secrets that are removed; those that are too short have none."""
    found = [
        spelling
        for secret in secrets
        if secret and len(secret) >= _SHORTEST
        for spelling in (secret, secret.replace("/", "\\/"), secret.replace("/", "\\\\/"), quote(secret, safe=""))
    ]
    return tuple(dict.fromkeys(found))


def redact(text: str, spelled: Sequence[str]) -> str:
    """Return a text without the secrets."""
    for each in spelled:
        text = text.replace(each, _MASK)
    return text


def redact_bytes(body: bytes, spelled: Sequence[str]) -> bytes:
    """Return a body without the secrets; the same object if it contains none."""
    for each in spelled:
        if (sought := each.encode()) in body:
            body = body.replace(sought, _MASK.encode())
    return body


def redact_error(error: RunError, spelled: Sequence[str]) -> None:
    """Remove the secrets from what an error shows."""
    error.message, error.quote = redact(error.message, spelled), redact(error.quote, spelled)
    error.args = (error.message,)


class BlockRedactor:
    """Removes the secrets from a stream of blocks, including secrets that are split between blocks."""

    def __init__(self, spelled: Sequence[str]) -> None:
        self._spelled = spelled
        encoded = [each.encode() for each in spelled]
        self._beginnings = tuple(each[:length] for each in encoded for length in range(1, len(each)))
        self._held = b""

    def feed(self, block: bytes) -> bytes:
        """Return what can be passed on. The end of the block is held back if it could be the start of a secret."""
        block = redact_bytes(self._held + block if self._held else block, self._spelled)
        self._held = b""
        if block.endswith(self._beginnings):
            self._held = max((each for each in self._beginnings if block.endswith(each)), key=len)
        return block[: len(block) - len(self._held)]

    def end(self) -> bytes:
        """Return the bytes held back."""
        held, self._held = self._held, b""
        return held
