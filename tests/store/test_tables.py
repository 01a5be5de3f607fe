"""The SQL: every statement that a server runs is served by an index."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from store import open_store
from store.ports import (
    ACTIVE,
    Append,
    Delete,
    DropCheckpoints,
    Idle,
    Insert,
    PageQuery,
    Patch,
    Retract,
)
from store.tables import ACTIVE_SQL
from tests.store.rows import assistant, event, message, run, step, thread


async def everything_once(path: Path) -> list[str]:
    """Go through every door of the store; return the statements."""
    seen: list[str] = []
    store = await open_store(path, trace=seen.append, keeps=lambda _: True)
    seen.clear()
    a, t = assistant(), thread()
    r = run(t)
    m, s = message(t, run_id=r.id), step(r)
    inserts = [Insert(row) for row in (a, t)]
    await store.commit([*inserts, Idle(t.id, "ann"), Insert(r), Insert(m), Insert(s)], durable=False)
    config = {"configurable": {"thread_id": r.id, "checkpoint_ns": "", "checkpoint_id": "1"}}
    await store.checkpoints.aput_writes(config, [("exchange", 1)], "task")
    await store.checkpoints.aget_tuple(config)
    await store.checkpoints.aget_tuple({"configurable": {"thread_id": r.id}})
    await store.commit([Append(r.id, [event(0)]), Retract(r.id, frozenset({"msg_1"}))], durable=False)
    await store.events(r.id, after=-1, limit=10)
    await store.active_run(t.id, "ann")
    await store.unfinished()
    await store.unfinished(due_before=1)
    for row in (a, t, r, m, s):
        await store.get(row.kind, row.id, "ann", thread_id=row.thread_id, run_id=row.run_id)
        await store.commit([Patch(row.kind, row.id, "ann", {"n": 1})], durable=False)
        for order in ("asc", "desc"):
            for after, before in ((None, None), (row.id, None), (None, row.id), (row.id, row.id)):
                query = PageQuery(order=order, after=after, before=before)  # type: ignore[arg-type]
                await store.page(row.kind, "ann", query, thread_id=row.thread_id, run_id=row.run_id)
    await store.commit([DropCheckpoints(r.id)], durable=False)
    for row in (s, m, r, a, t):
        await store.commit([Delete(row.kind, row.id, "ann")], durable=False)
    await store.close()
    return seen


async def test_no_statement_scans_a_table_or_sorts_one(tmp_path: Path) -> None:
    seen = await everything_once(tmp_path / "t.db")

    def plans() -> dict[str, str]:
        with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
            asked = {sql for sql in seen if sql.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")}
            return {sql: "; ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")) for sql in asked}

    found = await asyncio.to_thread(plans)
    assert len(found) > 60
    few = "SCAN runs USING INDEX runs_active; USE TEMP B-TREE FOR ORDER BY"  # the active runs, not the table
    found = {sql: plan.replace("SCAN CONSTANT ROW", "").replace(few, "") for sql, plan in found.items()}
    assert {sql: plan for sql, plan in found.items() if "SCAN" in plan or "TEMP" in plan} == {}


def test_the_active_statuses_in_sql_are_those_of_the_port() -> None:
    assert {word for word in ACTIVE_SQL.split("'") if word in ACTIVE} == ACTIVE
