"""The keys that the server accepts: those of API_KEYS, and the stored ones, which can change while it serves.

Invariants: a change in the store takes effect within a second, in each process that has the store open. As long as no
key was ever created and API_KEYS is empty, the server is open; once there is a stored key, even a revoked one, every
request needs a key. Keys are compared in constant time. No request reads or writes the store for its key.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from api.key_limits import KeyLimiter
from store.ports import Keys, StoredKey
from telemetry.background import restart_on_error
from telemetry.repeated_warnings import RepeatedWarning
from wire.errors import StoreError, Unauthorized
from wire.ids import DEFAULT_OWNER
from wire.key_format import DEFAULT_SCOPES, ID_LENGTH, SCOPES, Scope, hash_key

__all__ = ["Grant", "KeyRing"]

logger = logging.getLogger("threadhold.keys")

_POLL_S: Final = 0.4
_NOTE_S: Final = 10
"""Seconds between two notes of a key's last use, which is thus stored to within that time."""

_NO_HASH: Final = bytes(32)
"""Compared with if no key has the id, so that the time does not reveal which ids exist."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request is allowed to do. `key` is its stored key, if it has one."""

    owner: str
    scopes: frozenset[Scope]
    key: StoredKey | None = None


_OPEN: Final = Grant(DEFAULT_OWNER, frozenset(SCOPES))


class KeyRing:
    """Checks keys. Without `following`, it has only those of API_KEYS."""

    def __init__(self, api_keys: Mapping[str, str], *, clock: Callable[[], float] = time.time) -> None:
        """`api_keys` maps keys to owners; `clock` returns Unix seconds."""
        self.limiter = KeyLimiter()
        self._fixed = {key.encode(): Grant(owner, DEFAULT_SCOPES) for key, owner in api_keys.items()}
        self._stored: dict[str, StoredKey] = {}
        self._grants: dict[bytes, Grant] = {}
        """Of the stored keys, by their ids."""
        self._clock = clock
        self._revision: object = None
        self._used_at: dict[str, int] = {}
        self._noted_at: dict[str, int] = {}
        self._refusals = {
            reason: RepeatedWarning(logger, f"a request from %s was refused: {text} (in the last minute or more: %d)")
            for reason, text in {
                "unknown": "its key is not valid",
                "revoked": "its key %s was revoked",
                "expired": "its key %s has expired",
                "scope": "its key %s lacks the scope %s",
            }.items()
        }

    @property
    def is_open(self) -> bool:
        """Whether requests need no key."""
        return not self._fixed and not self._stored

    @property
    def open_grant(self) -> Grant:
        """What every request of an open server can do."""
        return _OPEN

    def grant(self, given: bytes, peer: str) -> Grant | None:
        """Return what a key allows, or None if it is not valid, which is logged for `peer`.

        Raises Unauthorized for a valid key that was revoked or has expired: only who has it learns that.
        """
        found: Grant | None = None
        for known, grant in self._fixed.items():  # all of them, so that the time reveals nothing
            if hmac.compare_digest(known, given):
                found = grant
        if found is not None:
            return found
        found = self._find(given)
        if found is None or (stored := found.key) is None:
            self._refusals["unknown"].add(peer)
            return None
        now = self._clock()
        state = stored.state(now)
        if state != "active":
            self._refusals[state].add(peer, stored.id)
            was = "was revoked" if state == "revoked" else "has expired"
            raise Unauthorized(
                f"Incorrect API key provided: the key {stored.id} {was}.", headers={"WWW-Authenticate": "Bearer"}
            )
        self._used_at[stored.id] = int(now)
        return found

    def note_missing_scope(self, grant: Grant, scope: str, peer: str) -> None:
        """Log that a request was refused because its key lacks a scope."""
        self._refusals["scope"].add(peer, "of API_KEYS" if grant.key is None else grant.key.id, scope)

    def _find(self, given: bytes) -> Grant | None:
        grant = self._grants.get(given[:ID_LENGTH])
        known = _NO_HASH if grant is None or grant.key is None else grant.key.hash
        return grant if hmac.compare_digest(known, hash_key(given)) else None

    # --- following the store --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def following(self, keys: Keys) -> AsyncIterator[None]:
        """Read the stored keys, and follow their changes in the block. Raises StoreError if they cannot be read."""
        await self._read(keys)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(restart_on_error(lambda: self._follow(keys), retry_s=_POLL_S))
            try:
                yield
            finally:
                task.cancel()
        with suppress(StoreError):
            await self._note_uses(keys, every_s=0)
        self._stored, self._grants, self._revision = {}, {}, None

    async def _follow(self, keys: Keys) -> None:
        failing = False
        while True:
            await asyncio.sleep(_POLL_S)
            try:
                await self._read(keys)
                await self._note_uses(keys, every_s=_NOTE_S)
                failing = False
            except StoreError as error:
                if not failing:
                    logger.error("the stored keys could not be read; the last known keys remain valid: %s", error)
                failing = True

    async def _read(self, keys: Keys) -> None:
        revision = await keys.revision()
        if revision == self._revision:
            return
        is_first = self._revision is None
        stored = await keys.all()
        was_open = self.is_open
        self._stored, self._revision = {key.id: key for key in stored}, revision
        self._grants = {key.id.encode(): Grant(key.owner, key.scopes, key) for key in stored}
        self.limiter.set_keys(self._stored)
        if stored:
            now = self._clock()
            active = sum(key.state(now) == "active" for key in stored)
            logger.info("stored keys: %d, of which %d are active", len(stored), active)
        if was_open and stored and not is_first:
            logger.warning("a key was created: from now on, every API request needs a key")

    async def _note_uses(self, keys: Keys, *, every_s: int) -> None:
        due = {id: at for id, at in self._used_at.items() if at - self._noted_at.get(id, 0) >= every_s}
        if due:
            for id in due:
                del self._used_at[id]
            self._noted_at = {id: at for id, at in self._noted_at.items() if id in self._stored} | due
            await keys.note_uses(due)
