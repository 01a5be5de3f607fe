"""Stored API keys in a SQLite file: see `store.ports.keys`, which documents each method.

`seq` is the number of a key's last change. A change replaces the row, so AUTOINCREMENT assigns a number that no change
had before, and the table's last number shows whether anything has changed.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, cast

from sqlite_utils import Database

from store.ports import KeyLimits, StoredKey
from store.sqlite.database import Engine, create_or_migrate
from store.sqlite.failures import failed
from store.sqlite.migrations import MIGRATIONS
from store.sqlite.offline import check_schema, in_use, open_read_only
from wire.key_format import Scope

__all__ = ["SqliteKeyAdministration", "SqliteKeys"]

_BUSY_S: Final = 10.0

_COLUMNS: Final = (
    "id, owner, name, hash, scopes, created_at, expires_at, revoked_at, last_used_at, requests_limit, tokens_limit"
)
_ALL: Final = f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at, seq"
_REPLACE: Final = f"INSERT OR REPLACE INTO api_keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_REVISION: Final = "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'api_keys'), (SELECT COUNT(*) FROM api_keys)"
_USED: Final = "UPDATE api_keys SET last_used_at = ?1 WHERE id = ?2 AND (last_used_at IS NULL OR last_used_at < ?1)"


class SqliteKeys:
    """The keys of an open file."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def revision(self) -> object:
        return await self._engine.read(lambda conn: conn.execute(_REVISION).fetchone())

    async def all(self) -> list[StoredKey]:
        return await self._engine.read(_read_all)

    async def note_uses(self, used_at: Mapping[str, int]) -> None:
        values = [(at, id) for id, at in used_at.items()]

        def update(conn: sqlite3.Connection) -> None:
            conn.executemany(_USED, values)

        await self._engine.queue([update], touched=frozenset(), size=0)


class SqliteKeyAdministration:
    """The keys of a file that a server can have open."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[StoredKey]:
        if not self._path.exists() or not self._path.stat().st_size:
            return []
        with open_read_only(self._path, any_schema=True, untouched=True) as conn:
            if conn.execute("SELECT 1 FROM sqlite_schema WHERE name = 'api_keys'").fetchone() is None:
                return []
            return _read_all(conn)

    def add(self, key: StoredKey) -> None:
        with self._writing() as conn:
            _write(conn, key)

    def revoke(self, id: str, revoked_at: int, *, replacement: StoredKey | None = None) -> StoredKey | None:
        with self._writing() as conn:
            found = conn.execute(f"SELECT {_COLUMNS} FROM api_keys WHERE id = ?", (id,)).fetchone()
            if found is None:
                return None
            key = _decode(found)
            at = revoked_at if key.revoked_at is None else min(revoked_at, key.revoked_at)
            conn.execute(_REPLACE, (*found[:7], at, *found[8:]))
            if replacement is not None:
                _write(conn, replacement)
            return _decode((*found[:7], at, *found[8:]))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Enclose one synced transaction, next to a server or without one. Raises StoreFailed."""
        path = self._path
        try:
            if not in_use(path) and not _is_current(path):
                create_or_migrate(path)
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)) as conn:
                check_schema(conn, path, any_schema=False)
                conn.isolation_level = None
                conn.execute("PRAGMA synchronous = FULL")
                conn.execute("BEGIN IMMEDIATE")
                with conn:  # commits, or rolls back after an error
                    yield conn
        except (OSError, sqlite3.Error) as error:
            raise failed(f"The database `{path}` could not be changed", error) from error


def _is_current(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        return False
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as conn:
        return not MIGRATIONS.pending(Database(conn))


def _read_all(conn: sqlite3.Connection) -> list[StoredKey]:
    return [_decode(found) for found in conn.execute(_ALL)]


def _write(conn: sqlite3.Connection, key: StoredKey) -> None:
    scopes, limits = " ".join(sorted(key.scopes)), (key.limits.requests, key.limits.tokens)
    times = (key.created_at, key.expires_at, key.revoked_at, key.last_used_at)
    conn.execute(_REPLACE, (key.id, key.owner, key.name, key.hash, scopes, *times, *limits))


def _decode(found: Sequence[object]) -> StoredKey:
    id, owner, name, hashed, scopes, created_at, expires_at, revoked_at, used_at, requests, tokens = cast(
        "tuple[str, str, str, bytes, str, int, int | None, int | None, int | None, int | None, int | None]", found
    )
    allowed = frozenset(cast("list[Scope]", scopes.split()))
    limits = KeyLimits(requests, tokens)
    return StoredKey(id, owner, name, hashed, allowed, created_at, expires_at, revoked_at, used_at, limits)
