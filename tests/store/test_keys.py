"""Stored keys: what the commands write is what servers read, and no key is in the file."""

import asyncio
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlite_utils import Database

from store.backend import configured_database, open_backend
from store.ports import KeyAdministration, KeyLimits, StoredKey
from store.sqlite.lock import FileLock
from store.sqlite.migrations import MIGRATIONS, STEPS
from wire.errors import StoreFailed
from wire.key_format import hash_key, key_id, new_key


def make_key(text: str, **fields: object) -> StoredKey:
    key = StoredKey(key_id(text) or "", "ann", "laptop", hash_key(text.encode()), frozenset({"read"}), 1)
    return replace(key, **fields)  # type: ignore[arg-type]


def test_commands_read_the_keys_that_they_add(tmp_path: Path) -> None:
    keys = configured_database("", tmp_path / "new").keys
    assert keys.all() == []
    first = make_key(new_key(), limits=KeyLimits(3, 4), expires_at=9)
    second = make_key(new_key(), owner="bob", created_at=2, scopes=frozenset({"admin", "files"}))
    keys.add(second)
    keys.add(first)
    assert keys.all() == [first, second]


def test_a_new_database_is_private(tmp_path: Path) -> None:
    configured_database("", tmp_path).keys.add(make_key(new_key()))
    assert os.stat(tmp_path / "threadhold.db").st_mode & 0o777 == 0o600


def test_the_file_does_not_contain_the_key(tmp_path: Path) -> None:
    text = new_key()
    configured_database("", tmp_path).keys.add(make_key(text))
    assert not [path for path in tmp_path.iterdir() if text.rpartition("-")[2].encode() in path.read_bytes()]


def test_an_earlier_revocation_stays(tmp_path: Path) -> None:
    keys = configured_database("", tmp_path).keys
    key = make_key(new_key())
    keys.add(key)
    for at, stored in ((50, 50), (90, 50), (20, 20)):
        assert keys.revoke(key.id, at) == replace(key, revoked_at=stored)
    assert keys.revoke("th-000000000000", 1, replacement=make_key(new_key())) is None
    assert keys.all() == [replace(key, revoked_at=20)]


@pytest.mark.parametrize(
    ("expires_at", "revoked_at", "state"),
    [(None, None, "active"), (101, 101, "active"), (100, None, "expired"), (None, 100, "revoked"), (1, 1, "revoked")],
)
def test_a_key_is_valid_before_both_of_its_ends(expires_at: int | None, revoked_at: int | None, state: str) -> None:
    assert make_key(new_key(), expires_at=expires_at, revoked_at=revoked_at).state(100) == state


@pytest.fixture
def commands(tmp_path: Path) -> KeyAdministration:
    return configured_database("", tmp_path).keys


async def test_an_open_store_sees_each_change_but_not_uses(tmp_path: Path, commands: KeyAdministration) -> None:
    async with open_backend(tmp_path / "threadhold.db") as backend:
        revisions = [await backend.keys.revision()]
        one, two = make_key(new_key()), make_key(new_key(), created_at=2)
        for change in (lambda: commands.add(one), lambda: commands.revoke(one.id, 5), lambda: commands.add(two)):
            await asyncio.to_thread(change)
            revisions.append(await backend.keys.revision())
        assert len(set(map(str, revisions))) == 4
        await backend.keys.note_uses({one.id: 7, two.id: 8})
        await backend.keys.note_uses({one.id: 6})
        assert await backend.keys.revision() == revisions[-1]
        assert [key.last_used_at for key in await backend.keys.all()] == [7, 8]


def write_former(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        MIGRATIONS.apply(Database(conn), stop_before="m014_keys_and_usage")


def test_a_file_of_the_former_schema_is_migrated(tmp_path: Path) -> None:
    write_former(tmp_path / "threadhold.db")
    keys = configured_database("", tmp_path).keys
    assert keys.all() == []
    key = make_key(new_key())
    keys.add(key)
    assert keys.all() == [key]
    with closing(sqlite3.connect(tmp_path / "threadhold.db")) as conn:
        assert tuple(step.name for step in MIGRATIONS.applied(Database(conn))) == STEPS


def test_a_file_that_an_older_server_uses_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "threadhold.db"
    write_former(path)
    lock = FileLock(path)
    try:
        with pytest.raises(StoreFailed, match="older threadhold"):
            configured_database("", tmp_path).keys.add(make_key(new_key()))
    finally:
        lock.release()
