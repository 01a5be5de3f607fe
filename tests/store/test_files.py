"""Files and vector stores in the store: references, counts, lists, waiting and due objects."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from store.ports import DUE_AT_ONCE, Delete, Insert, PageQuery, Patch, RequireRow, store_file_id
from store.sqlite.database import Engine
from store.sqlite.files import SqliteFileQueries
from store.sqlite.store import SqliteStore, open_store
from telemetry.context import set_current_owner
from tests.store.rows import file, file_batch, put, store_file, upload, vector_store
from wire.errors import InvalidRequest, MissingRow

ALL = PageQuery(limit=100, order="asc")


async def test_a_store_file_needs_a_store_and_file_of_its_owner(store: SqliteStore) -> None:
    vs, f, foreign = vector_store(), file(), file("bob")
    await put(store, vs, f, foreign)
    await put(store, store_file(vs, f))
    for row, kind in ((store_file(vs, foreign), "file"), (store_file(vector_store(), f), "vector_store")):
        with pytest.raises(MissingRow) as missed:
            await put(store, row)
        assert missed.value.kind == kind


async def test_there_requires_an_existing_row_of_the_owner(store: SqliteStore) -> None:
    f, later = file(), file()
    await put(store, f)
    await store.commit([RequireRow("file", f.id, "ann")], durable=False)
    for there in (
        RequireRow("file", f.id, "bob"),
        RequireRow("file", "file-none", "ann"),
        RequireRow("vector_store", f.id, "ann"),
    ):
        with pytest.raises(MissingRow):
            await store.commit([Insert(later), there], durable=False)
    assert await store.get("file", later.id, "ann") is None


async def test_deleting_a_file_or_a_store_deletes_its_store_files(store: SqliteStore) -> None:
    one, two, f, g = vector_store(), vector_store(), file(), file()
    batch = file_batch(one)
    await put(store, one, two, f, g, batch, store_file(one, f, batch), store_file(one, g), store_file(two, f))
    await store.commit([Delete("file", f.id, "ann")], durable=False)
    assert await store.file_queries.store_files_of(f.id) == []
    assert (await store.file_queries.file_totals("vector_store_id", [one.id]))[one.id].counts["total"] == 1
    await store.commit([Delete("vector_store", one.id, "ann")], durable=False)
    assert await store.file_queries.store_files_of(g.id) == []
    assert await store.get("file_batch", batch.id, "ann") is None
    assert await store.get("file", g.id, "ann") is not None


async def test_a_tolerant_deletion_of_a_missing_row_succeeds(store: SqliteStore) -> None:
    vs, f = vector_store(), file()
    replacement = store_file(vs, f, status="completed")
    await put(store, vs, f)
    for row in (store_file(vs, f), replacement):
        await store.commit([Delete("vector_store_file", row.id, "ann", if_exists=True), Insert(row)], durable=False)
    found = await store.get("vector_store_file", replacement.id, "ann")
    assert found is not None
    assert found.body["status"] == "completed"
    with pytest.raises(MissingRow):
        await store.commit([Delete("vector_store_file", "vs_x/file-x", "ann")], durable=False)


async def test_counts_equal_the_rows_at_every_moment(store: SqliteStore) -> None:
    vs, empty, files = vector_store(), vector_store(), [file() for _ in range(4)]
    batch = file_batch(vs)
    await put(store, vs, empty, batch, *files)
    await put(store, *(store_file(vs, f, batch if at < 2 else None, usage_bytes=at) for at, f in enumerate(files)))
    done = {"status": "completed", "usage_bytes": 100}
    await store.commit([Patch("vector_store_file", store_file_id(vs.id, files[0].id), "ann", done)], durable=False)
    file_totals = await store.file_queries.file_totals("vector_store_id", [vs.id, empty.id])
    assert file_totals[vs.id].counts == {"in_progress": 3, "completed": 1, "failed": 0, "cancelled": 0, "total": 4}
    assert (file_totals[vs.id].usage_bytes, file_totals[empty.id].counts["total"]) == (106, 0)
    counted = (await store.file_queries.file_totals("batch_id", [batch.id]))[batch.id].counts
    assert (counted["in_progress"], counted["completed"], counted["total"]) == (1, 1, 2)


async def test_store_files_are_listed_by_store_batch_and_status(store: SqliteStore) -> None:
    vs, other, files = vector_store(), vector_store(), [file() for _ in range(5)]
    batch = file_batch(vs)
    await put(store, vs, other, batch, *files, store_file(other, files[0]))
    rows = [
        store_file(vs, f, batch if at % 2 else None, status="failed" if at > 2 else "completed")
        for at, f in enumerate(files)
    ]
    await put(store, *rows)

    async def listed(query: PageQuery = ALL, **where: str) -> list[int]:
        page = await store.file_queries.store_files("ann", query, vector_store_id=vs.id, **where)
        return [files.index(next(f for f in files if f.id == row.file_id)) for row in page.rows]

    assert await listed() == [0, 1, 2, 3, 4]
    assert await listed(batch_id=batch.id) == [1, 3]
    assert await listed(batch_id=batch.id, status="failed") == [3]
    assert await listed(replace(ALL, after=rows[1].id)) == [2, 3, 4]
    await store.commit([Delete("vector_store_file", rows[1].id, "ann")], durable=False)
    assert await listed(replace(ALL, after=rows[1].id), batch_id=batch.id) == [3]
    page = await store.file_queries.store_files("bob", ALL, vector_store_id=vs.id)
    assert page.rows == []
    with pytest.raises(InvalidRequest, match="No vector store file found with id 'file-none'"):
        await listed(replace(ALL, after=store_file_id(vs.id, "file-none")))


async def test_waiting_files_are_oldest_first_and_owners_take_turns(store: SqliteStore) -> None:
    rows = []
    for owner in ("ann", "bob", "ann", "ann"):
        vs, f = vector_store(owner), file(owner)
        rows.append(store_file(vs, f))
        await put(store, vs, f, rows[-1])
    first, bobs, second, third = (row.id for row in rows)

    async def waiting(limit: int, *besides: int) -> list[str]:
        return [row.id for row in await store.file_queries.waiting(limit, besides=[rows[at] for at in besides])]

    assert await waiting(2) == [first, bobs]
    assert await waiting(9, 0) == [bobs, second, third]
    assert await waiting(1, 1) == [first]
    assert await waiting(2, 0, 1) == [second, third]
    done = Patch("vector_store_file", first, "ann", {"status": "completed"})
    await store.commit([done], durable=False)
    assert await waiting(9) == [bobs, second, third]


def fill(path: Path, count: int) -> None:
    """Write waiting vector store files of ann, one of bob after them, and as many of ann in a deleted store."""
    with closing(sqlite3.connect(path)) as conn, conn:
        sql = "INSERT INTO vector_stores (id, owner, status, body, private) VALUES (?, ?, 'completed', '{}', '{}')"
        conn.executemany(sql, [("vs_a", "ann"), ("vs_b", "bob")])
        columns = "id, owner, vector_store_id, file_id, status, usage_bytes, body, private"
        sql = f"INSERT INTO vector_store_files ({columns}) VALUES (?, ?, ?, ?, 'in_progress', 0, '{{}}', '{{}}')"
        rows = [(f"vs_a/{number}", "ann", "vs_a", f"file-{number}") for number in range(count)]
        rows += [("vs_b/1", "bob", "vs_b", "file-1")]
        rows += [(f"vs_c/{number}", "cat", "vs_gone", f"file-{number}") for number in range(count)]
        conn.executemany(sql, rows)


@pytest.mark.parametrize("full", [["ann"], ["ann", "bob"], []], ids=["one", "all", "none"])
async def test_finding_waiting_files_costs_the_same_for_any_number(tmp_path: Path, full: list[str]) -> None:
    steps = {}
    for count in (2_000, 20_000):
        path = tmp_path / f"{count}.db"
        await (await open_store(path)).close()
        await asyncio.to_thread(fill, path, count)
        engine = await Engine.open(path, busy_timeout_s=5, trace=None)
        counted = 0

        def count_step() -> None:
            nonlocal counted
            counted += 1

        barrier = threading.Barrier(5)

        def on_progress(
            conn: sqlite3.Connection, barrier: threading.Barrier = barrier, count: Any = count_step
        ) -> None:
            barrier.wait(10)
            conn.set_progress_handler(count, 10)

        async def watch_one(owner: str, reads: Engine = engine, begin: Any = on_progress) -> None:
            set_current_owner(owner)  # one owner does not get all connections
            await reads.read(begin)

        await asyncio.gather(*(watch_one(f"owner {number}") for number in range(5)))
        found = await SqliteFileQueries(engine).waiting(16, full=full)
        assert {row.owner for row in found} == ({"ann"} if not full else {"bob"} - set(full))
        steps[count] = counted
        await engine.close()
    assert steps[20_000] <= steps[2_000] + 5


async def test_due_objects_are_listed_until_they_are_processed(store: SqliteStore) -> None:
    f, vs = file(expires_at=100), vector_store("bob", expires_at=100)
    await put(store, f, vs, file(), vector_store(), file(expires_at=None))
    assert await store.file_queries.due("file", 99) == []
    assert [row.id for row in await store.file_queries.due("file", 100)] == [f.id]
    assert [row.id for row in await store.file_queries.due("vector_store", 100)] == [vs.id]
    await store.commit([Patch("vector_store", vs.id, "bob", {"status": "expired"})], durable=False)
    assert await store.file_queries.due("vector_store", 100) == []
    pending = upload("bob", expires_at=100)
    await put(store, pending, upload(expires_at=100, status="completed"), upload(expires_at=101))
    assert [row.id for row in await store.file_queries.due("upload", 100)] == [pending.id]


async def test_due_objects_are_listed_in_parts_the_earliest_first(store: SqliteStore) -> None:
    uploads = [upload("ann", expires_at=1_000 - number) for number in range(DUE_AT_ONCE + 20)]
    await put(store, *uploads)
    due = [row.id for row in await store.file_queries.due("upload", 1_000)]
    assert due == [row.id for row in reversed(uploads)][:DUE_AT_ONCE]


async def test_thousands_of_unknown_files_are_found(store: SqliteStore) -> None:
    f = file()
    await put(store, f)
    ids = [f"file-{number}" for number in range(1200)]
    assert await store.file_queries.unknown([*ids, f.id]) == ids


async def test_parts_are_known_while_their_upload_is_pending(store: SqliteStore) -> None:
    pending = upload("bob", "part_1", "part_2")
    await put(store, pending, upload("ann", "part_3", status="cancelled"))
    assert await store.file_queries.unknown(["part_1", "part_2", "part_3"]) == ["part_3"]
    await store.commit([Patch("upload", pending.id, "bob", {"status": "completed"})], durable=False)
    assert await store.file_queries.unknown(["part_1"]) == ["part_1"]
