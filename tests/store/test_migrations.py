"""The schema: numbered migrations, each applied completely or not at all, and never backwards."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from store.backend import open_backend
from store.ports import Hold
from store.sqlite.migrations import MIGRATIONS, STEPS, migrate
from store.sqlite.store import open_store
from tests.store.rows import put, thread, upload
from wire.errors import StoreFailed


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as connection:
        yield Database(connection)


def test_steps_are_numbered_without_a_gap_and_all_are_listed(db: Database) -> None:
    assert [name[:5] for name in STEPS] == [f"m{number:03}_" for number in range(1, len(STEPS) + 1)]
    assert tuple(step.name for step in MIGRATIONS.pending(db)) == STEPS


def test_each_step_is_recorded_and_runs_once(db: Database) -> None:
    migrate(db, "t.db")
    assert tuple(step.name for step in MIGRATIONS.applied(db)) == STEPS
    migrate(db, "t.db")
    assert MIGRATIONS.pending(db) == []


def test_every_table_has_an_owner(db: Database) -> None:
    migrate(db, "t.db")
    tables = set(db.table_names()) - {"sqlite_sequence", Migrations.migrations_table}
    # The full-text index has fixed columns; its contents belong to a row of `index_chunks`.
    tables -= {name for name in tables if name.startswith(("index_words", "index_terms"))}
    tables -= {"processes", "duties"}  # these are the servers' own
    assert len(tables) == 23
    assert [name for name in tables if "owner" not in db[name].columns_dict] == []


def test_a_failed_step_leaves_nothing_and_stays_pending(db: Database) -> None:
    db.conn.execute("CREATE TABLE tombstones (squatter)")
    with pytest.raises(sqlite3.OperationalError, match="tombstones"):
        migrate(db, "t.db")
    assert set(db.table_names()) <= {"tombstones", Migrations.migrations_table, "sqlite_sequence"}
    db.conn.execute("DROP TABLE tombstones")
    migrate(db, "t.db")
    assert MIGRATIONS.pending(db) == []


def test_a_file_stopped_between_steps_resumes_there(db: Database) -> None:
    MIGRATIONS.apply(db, stop_before=STEPS[1])
    migrate(db, "t.db")
    assert tuple(step.name for step in MIGRATIONS.applied(db)) == STEPS


@pytest.fixture
def newer(db: Database) -> None:
    migrate(db, "t.db")
    db[Migrations.migrations_table].insert({"migration_set": "threadhold", "name": "m999_later", "applied_at": "x"})


@pytest.mark.usefixtures("newer")
async def test_a_newer_schema_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match=r"`m999_later`.*use that version"):
        await open_store(tmp_path / "t.db")


@pytest.fixture
def older(db: Database) -> None:
    MIGRATIONS.apply(db, stop_before="m007_uploads")


@pytest.mark.usefixtures("older")
async def test_a_file_without_uploads_opens_and_accepts_them(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    row = upload()
    await put(store, row)
    assert await store.get("upload", row.id, "ann") == row
    await store.close()


async def test_rows_survive_a_restart_and_its_migration(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    row = thread()
    await put(store, row)
    await store.close()
    store = await open_store(tmp_path / "t.db")
    assert await store.get("thread", row.id, "ann") == row
    await store.close()


@pytest.fixture
def former(db: Database) -> tuple[str, str]:
    """Write a file of the last revision without processes, with a run and a vector store file that a crash left."""
    MIGRATIONS.apply(db, stop_before="m010_processes")
    conn = db.conn
    conn.execute("INSERT INTO threads (id, owner, body, private) VALUES ('thread_1', 'ann', '{}', '{}')")
    values = (
        "run_1",
        "ann",
        "thread_1",
        "in_progress",
        2_000_000_000,
        '{"status": "in_progress", "created_at": 1}',
        "{}",
    )
    conn.execute(
        "INSERT INTO runs (id, owner, thread_id, status, expires_at, body, private) VALUES (?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    conn.execute(
        "INSERT INTO vector_stores (id, owner, status, body, private) VALUES ('vs_1', 'ann', 'completed', '{}', '{}')"
    )
    conn.execute(
        "INSERT INTO files (id, owner, purpose, body, private) VALUES ('file_1', 'ann', 'assistants', '{}', '{}')"
    )
    conn.execute(
        "INSERT INTO vector_store_files "
        "(id, owner, vector_store_id, file_id, status, usage_bytes, body, private) "
        "VALUES ('vs_1/file_1', 'ann', 'vs_1', 'file_1', 'in_progress', 0, '{\"status\": \"in_progress\"}', '{}')"
    )
    return "run_1", "vs_1/file_1"


async def test_a_file_of_the_last_revision_is_migrated_and_resumed(tmp_path: Path, former: tuple[str, str]) -> None:
    async with open_backend(tmp_path / "t.db") as backend:
        assert [run.id for run in await backend.processes.run_queue.runs()] == [former[0]]
        assert [row.id for row in await backend.file_queries.waiting(5)] == [former[1]]
        held = [
            Hold("run", former[0], "ann", frozenset({"in_progress"})),
            Hold("vector_store_file", former[1], "ann", frozenset({"in_progress"})),
        ]
        await backend.records.commit(held, durable=True)


def applied(path: Path, *, stop_before: tuple[str, ...] | None = None) -> list[str]:
    """Return the steps of a file, after those before `stop_before`, if given, are made."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if stop_before is not None:
            MIGRATIONS.apply(Database(connection), stop_before=stop_before)
        return [step.name for step in MIGRATIONS.applied(Database(connection))]


@pytest.mark.parametrize("steps", [0, 4, len(STEPS) - 1], ids=["new", "old", "last"])
async def test_processes_that_open_a_file_together_migrate_it_once(tmp_path: Path, steps: int) -> None:
    path = tmp_path / "t.db"
    if steps:
        assert len(await asyncio.to_thread(applied, path, stop_before=STEPS[steps:])) == steps
    stores = await asyncio.gather(*(open_store(path, is_shared=True) for _ in range(4)))
    for store in stores:
        await store.close()
    assert await asyncio.to_thread(applied, path) == list(STEPS)
