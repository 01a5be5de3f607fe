"""The ports of stored API keys: a server reads them, and the operator's commands change them while servers run.

Invariants: the store never has a key itself, only its hash. A change is committed and synced when its method returns,
and a server that polls `Keys.revision` sees it. Keys are never removed, so that a server that once required keys does
not become open.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from wire.key_format import Scope

__all__ = ["KeyAdministration", "KeyLimits", "KeyState", "Keys", "StoredKey"]

KeyState = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key can use in a minute; None is unlimited."""

    requests: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One key. Times are Unix seconds. `revoked_at` can be in the future: the key is valid until then."""

    id: str
    owner: str
    name: str
    hash: bytes
    scopes: frozenset[Scope]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    limits: KeyLimits = KeyLimits()

    def state(self, now: float) -> KeyState:
        """Return whether the key is accepted at this time, and why not."""
        if self.revoked_at is not None and self.revoked_at <= now:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class Keys(Protocol):
    """The keys, for a server."""

    async def revision(self) -> object:
        """Return a value that differs from all earlier ones once a key was changed; uses do not count."""
        ...

    async def all(self) -> list[StoredKey]:
        """Return every key, oldest first."""
        ...

    async def note_uses(self, used_at: Mapping[str, int]) -> None:
        """Store when keys were last used: id → Unix s. Earlier times than the stored ones have no effect."""
        ...


class KeyAdministration(Protocol):
    """The keys, for an operator's commands; servers can run. Each method blocks, and raises StoreFailed."""

    def all(self) -> list[StoredKey]:
        """Return every key, oldest first; none if there is no database yet."""
        ...

    def add(self, key: StoredKey) -> None:
        """Store a new key, in a new database if there is none."""
        ...

    def revoke(self, id: str, revoked_at: int, *, replacement: StoredKey | None = None) -> StoredKey | None:
        """Make a key invalid from `revoked_at` on, and store its replacement in the same commit.

        A key that is to become invalid earlier stays so. Returns the key as stored, or None if there is none with this
        id; nothing is stored then.
        """
        ...
