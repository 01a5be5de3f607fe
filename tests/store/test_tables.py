"""Every SQL statement that a server runs is served by an index."""

import asyncio
import functools
import sqlite3
from contextlib import closing
from itertools import product
from pathlib import Path

from store.ports import (
    Append,
    CheckpointKey,
    Delete,
    DropCheckpoints,
    Insert,
    PageQuery,
    Patch,
    RequireNoActiveRun,
    RequireRow,
    Retract,
    Row,
)
from store.sqlite.store import SqliteStore, open_store
from store.sqlite.tables import ACTIVE_SQL
from tests.store.rows import (
    assistant,
    checkpoint_write,
    event,
    file,
    file_batch,
    message,
    run,
    step,
    store_file,
    thread,
    upload,
    vector_store,
)
from wire.status import ACTIVE


async def everything_once(path: Path) -> list[str]:
    """Call every method of the store; return the statements."""
    seen: list[str] = []
    store = await open_store(path, trace=seen.append)
    seen.clear()
    a, t = assistant(), thread()
    r = run(t)
    m, s = message(t, run_id=r.id), step(r)
    f, v = file(), vector_store()
    b = file_batch(v)
    p, u = store_file(v, f, b), upload()
    inserts = [Insert(row) for row in (a, t, f, v, b, p, u)]
    await store.commit([*inserts, RequireNoActiveRun(t.id, "ann"), Insert(r), Insert(m), Insert(s)], durable=False)
    store.checkpoints.put_writes(CheckpointKey(r.id, "", "1"), [checkpoint_write()])
    await store.checkpoints.get(r.id, "", "1")
    await store.checkpoints.get(r.id, "", None)
    await store.commit([Append(r.id, [event(0)]), Retract(r.id, frozenset({"msg_1"}))], durable=False)
    await store.events(r.id, after=-1, limit=10)
    await store.active_run(t.id, "ann")
    await store.entries_from("ann", t.id, m.id, limit=10, max_bytes=1_000)
    await store.unfinished()
    await store.unfinished(due_before=1)
    await store.commit([RequireRow("file", f.id, "ann")], durable=False)
    await query_files(store, v.id, b.id, p, f.id)
    for row in (a, t, r, m, s, f, v, b, p, u):
        await store.get(row.kind, row.id, "ann", thread_id=row.thread_id, run_id=row.run_id)
        await store.commit([Patch(row.kind, row.id, "ann", {"n": 1})], durable=False)
        for order in ("asc", "desc"):
            for after, before in ((None, None), (row.id, None), (None, row.id), (row.id, row.id)):
                query = PageQuery(order=order, after=after, before=before)  # type: ignore[arg-type]
                await store.page(row.kind, "ann", query, thread_id=row.thread_id, run_id=row.run_id)
    await store.commit([DropCheckpoints(r.id)], durable=False)
    for row in (s, m, r, a, t, p, b, f, v, u):
        await store.commit([Delete(row.kind, row.id, "ann")], durable=False)
    await store.purge()
    await store.close()
    return seen


async def query_files(
    store: SqliteStore, vector_store_id: str, batch_id: str, store_file_row: Row, file_id: str
) -> None:
    """Call every method of `FileQueries`."""
    file_queries = store.file_queries
    for after in (None, file_id):
        await file_queries.files("ann", PageQuery(after=after), purpose="assistants")
    for after, batch, status in product((None, store_file_row.id), (None, batch_id), (None, "completed")):
        at = {"vector_store_id": vector_store_id, "batch_id": batch, "status": status}
        await file_queries.store_files("ann", PageQuery(after=after), **at)
        await file_queries.store_files("ann", PageQuery(before=after, order="asc"), **at)
    await file_queries.file_totals("vector_store_id", [vector_store_id])
    await file_queries.file_totals("batch_id", [batch_id])
    await file_queries.waiting(10, besides=[store_file_row])
    await file_queries.store_files_of(file_id)
    await file_queries.due("file", 1)
    await file_queries.due("vector_store", 1)
    await file_queries.due("upload", 1)
    await file_queries.unknown([file_id])


async def test_no_statement_scans_a_table_or_sorts_one(tmp_path: Path) -> None:
    seen = await everything_once(tmp_path / "t.db")

    def plans() -> dict[str, str]:
        with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
            asked = {sql for sql in seen if sql.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")}
            return {sql: "; ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")) for sql in asked}

    found = await asyncio.to_thread(plans)
    assert len(found) > 60
    thread = "CORRELATED SCALAR SUBQUERY 1; SEARCH above USING INDEX sqlite_autoindex_threads_1 (id=?); "
    few = f"SCAN runs USING INDEX runs_active; {thread}USE TEMP B-TREE FOR ORDER BY"  # the active runs, not the table
    # `told`: the rows that the statement itself contains; `remains`: only the removals to do.
    own = ("SCAN CONSTANT ROW", "SCAN told", "SCAN remains", few)
    found = {sql: functools.reduce(lambda plan, part: plan.replace(part, ""), own, plan) for sql, plan in found.items()}
    assert {sql: plan for sql, plan in found.items() if "SCAN" in plan or "TEMP" in plan} == {}


def test_the_active_statuses_in_sql_equal_those_of_the_port() -> None:
    assert {word for word in ACTIVE_SQL.split("'") if word in ACTIVE} == ACTIVE
