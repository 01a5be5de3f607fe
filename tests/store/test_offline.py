"""Reading a store that another process has open, and files that are not a store of this program."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from store.ports import Insert
from store.sqlite.compaction import compact
from store.sqlite.offline import in_use, open_read_only, snapshot
from store.sqlite.store import open_store
from tests.store.rows import thread
from wire.errors import StoreFailed


@pytest.fixture(autouse=True)
def no_blocking_call_on_the_loop() -> None:
    """Allow blocking calls, as in commands; the store's other tests forbid them."""


async def made(folder: Path) -> Path:
    store = await open_store(folder / "x.db")
    await store.commit([Insert(thread())], durable=True)
    await store.close()
    return folder / "x.db"


def alter(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(sql)


async def test_a_file_in_use_is_detected_and_no_lock_is_left(tmp_path: Path) -> None:
    assert not in_use(tmp_path / "x.db")
    assert os.listdir(tmp_path) == []
    path = await made(tmp_path)
    assert not in_use(path)
    store = await open_store(path)
    assert in_use(path)
    await store.close()
    assert not in_use(path)


async def test_a_snapshot_stays_unchanged_while_the_store_is_used(tmp_path: Path) -> None:
    path = await made(tmp_path)
    store = await open_store(path)
    count = "SELECT COUNT(*) FROM threads"
    with open_read_only(path) as connection, snapshot(connection):
        await store.commit([Insert(thread())], durable=True)
        assert connection.execute(count).fetchone() == (1,)
    with open_read_only(path) as connection, snapshot(connection):
        assert connection.execute(count).fetchone() == (2,)
    await store.close()


async def test_nothing_can_be_written_offline(tmp_path: Path) -> None:
    path = await made(tmp_path)
    for untouched in (False, True):
        with pytest.raises(StoreFailed, match="readonly"), open_read_only(path, untouched=untouched) as connection:
            connection.execute("DELETE FROM threads")


async def test_another_version_s_file_is_refused_or_read_unchanged(tmp_path: Path) -> None:
    path = await made(tmp_path)
    alter(path, "UPDATE _sqlite_migrations SET name = 'm999_later' WHERE name = 'm005_index'")
    with pytest.raises(StoreFailed, match="newer threadhold"), open_read_only(path, any_schema=True):
        pass
    alter(path, "DELETE FROM _sqlite_migrations WHERE name = 'm999_later'")
    with pytest.raises(StoreFailed, match=r"older threadhold.*start the server once"), open_read_only(path):
        pass
    with open_read_only(path, any_schema=True) as connection:
        assert connection.execute("SELECT COUNT(*) FROM threads").fetchone() == (1,)


async def test_a_foreign_file_is_not_a_store(tmp_path: Path) -> None:
    alter(tmp_path / "x.db", "CREATE TABLE notes (text)")
    with pytest.raises(StoreFailed, match="not a Threadhold database"), open_read_only(tmp_path / "x.db"):
        pass
    (tmp_path / "y.db").write_text("no database at all " * 100)
    with pytest.raises(StoreFailed, match="could not be read"), open_read_only(tmp_path / "y.db"):
        pass


async def test_a_store_in_use_is_not_compacted(tmp_path: Path) -> None:
    path = await made(tmp_path)
    store = await open_store(path)
    with pytest.raises(StoreFailed, match="in use"):
        compact(path)
    await store.close()
    assert compact(path) >= 0
