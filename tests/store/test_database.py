"""Opening, closing and crashes: one process per file, and nothing acknowledged is lost."""

import asyncio
import os
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest

from store.ports import CheckpointKey, Insert, PageQuery
from store.sqlite.store import open_store
from tests.store.rows import checkpoint_write, put, put_run, thread
from wire.errors import StoreFailed


async def test_acknowledged_rows_survive_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.store.crash", str(path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    lines = [await child.stdout.readline() for _ in range(200)]
    with pytest.raises(StoreFailed, match="in use by another process"):
        await open_store(path)
    child.kill()
    lines += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    acknowledged = [line.decode().strip() for line in lines[1:] if line.endswith(b"\n")]
    store = await open_store(path)
    for id in acknowledged:
        assert await store.get("thread", id, "ann") is not None
        assert len((await store.page("message", "ann", PageQuery(), thread_id=id)).rows) == 1
    assert len(acknowledged) >= 199
    await store.close()


async def test_a_file_is_opened_once_until_it_is_closed(tmp_path: Path) -> None:
    first = await open_store(tmp_path / "t.db")
    await asyncio.to_thread(os.symlink, tmp_path / "t.db", tmp_path / "other.db")
    for name in ("t.db", "other.db"):
        with pytest.raises(StoreFailed, match="in use"):
            await open_store(tmp_path / name)
    await put(first, thread())
    await first.close()
    again = await open_store(tmp_path / "t.db")
    await again.close()


async def test_a_closed_store_is_a_single_complete_file(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "deep" / "er" / "t.db")
    await put(store, thread())
    await store.close()
    names = await asyncio.to_thread(lambda: sorted(p.name for p in (tmp_path / "deep" / "er").iterdir()))
    assert names == ["t.db", "t.db.lock"]


async def test_the_file_is_accessible_to_its_owner_only(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    modes = await asyncio.to_thread(lambda: {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()})
    assert modes == {0o600}
    await store.close()


async def test_memory_stores_are_separate_and_leave_nothing() -> None:
    first, second = await open_store(), await open_store(":memory:")
    row = thread()
    await put(first, row)
    assert await second.get("thread", row.id, "ann") is None
    await first.close()
    await second.close()


@pytest.mark.parametrize("what", ["no database", "a folder"])
async def test_an_unusable_file_is_reported_and_not_changed(tmp_path: Path, what: str) -> None:
    path = tmp_path / "t.db"

    def prepare() -> None:
        if what == "a folder":
            path.mkdir()
        else:
            path.write_text("dear diary, " * 1000)

    await asyncio.to_thread(prepare)
    with pytest.raises(StoreFailed, match=r"could not be opened|is a folder, not a file"):
        await open_store(path)
    if what == "no database":
        assert await asyncio.to_thread(path.read_text) == "dear diary, " * 1000
        await asyncio.to_thread(os.unlink, path)
        await (await open_store(path)).close()


async def test_readers_cannot_write(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    with pytest.raises(StoreFailed, match="readonly"):
        await store.engine.read(lambda connection: connection.execute("DELETE FROM threads"))
    await store.close()


async def test_checkpoints_without_runs_are_removed_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    store = await open_store(path)
    _, run = await put_run(store)
    for id in (run.id, "run_gone"):
        store.checkpoints.put_writes(CheckpointKey(id, "", "1"), [checkpoint_write()])
    await store.commit([Insert(thread())], durable=True)
    await store.close()
    await (await open_store(path)).close()

    def left() -> list[tuple[str]]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT run_id FROM checkpoint_writes").fetchall()

    assert await asyncio.to_thread(left) == [(run.id,)]
