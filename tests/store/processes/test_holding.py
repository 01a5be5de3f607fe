"""Objects that a process holds: no other process works on them, until they are released or their holder dies."""

import pytest

from store.backend import Backend
from store.ports import Hold, Insert, Patch, RequireHeld, RequireUnchanged, Row
from tests.store.processes.conftest import Pair, SharedStore
from tests.store.rows import file, put, run, store_file, thread, vector_store
from wire.errors import HeldByOther, MissingRow, StaleRow, StatusConflict
from wire.status import ACTIVE

QUEUED = frozenset({"queued"})


async def queued_run(backend: Backend, *, held: bool = False) -> Row:
    of = thread()
    row = run(of, status="queued")
    await backend.records.commit([Insert(of), Insert(row, held=held)], durable=True)
    return row


def hold(row: Row) -> Hold:
    assert row.kind in ("run", "vector_store_file")
    return Hold(row.kind, row.id, row.owner, frozenset({row.body["status"]}))


async def test_one_of_two_processes_gets_a_run(pair: Pair) -> None:
    a, b = pair
    row = await queued_run(a)
    await a.records.commit([hold(row)], durable=True)
    assert await a.records.get("run", row.id, row.owner) == row
    with pytest.raises(HeldByOther):
        await b.records.commit([hold(row)], durable=True)
    await a.records.commit([hold(row)], durable=True)  # its own hold is no obstacle


async def test_a_run_inserted_as_held_is_held(pair: Pair) -> None:
    a, b = pair
    row = await queued_run(a, held=True)
    with pytest.raises(HeldByOther):
        await b.records.commit([hold(row)], durable=True)


@pytest.mark.parametrize("status", ["requires_action", "completed"])
async def test_a_run_that_pauses_or_ends_is_free(pair: Pair, status: str) -> None:
    a, b = pair
    row = await queued_run(a, held=True)
    await a.records.commit([Patch("run", row.id, row.owner, {"status": status})], durable=True)
    await b.records.commit([Hold("run", row.id, row.owner, frozenset({status}))], durable=True)


@pytest.mark.parametrize("status", sorted(ACTIVE - {"requires_action"}))
async def test_other_changes_keep_the_holder(pair: Pair, status: str) -> None:
    a, b = pair
    row = await queued_run(a, held=True)
    await b.records.commit([Patch("run", row.id, row.owner, {"status": status})], durable=True)
    with pytest.raises(HeldByOther):
        await b.records.commit([Hold("run", row.id, row.owner, frozenset({status}))], durable=True)


async def test_a_hold_checks_the_status(pair: Pair) -> None:
    row = await queued_run(pair[0])
    with pytest.raises(StatusConflict):
        await pair[1].records.commit([Hold("run", row.id, row.owner, frozenset({"in_progress"}))], durable=True)


async def test_a_missing_row_cannot_be_held(pair: Pair) -> None:
    for change in (Hold("run", "run_x", "ann", QUEUED), RequireHeld("run", "run_x", "ann")):
        with pytest.raises(MissingRow):
            await pair[0].records.commit([change], durable=True)


async def test_releasing_what_is_not_held_is_refused(pair: Pair) -> None:
    a, b = pair
    stored, of = file(), vector_store()
    row = store_file(of, stored, status="in_progress")
    await put(a.records, stored, of, row)
    required = RequireHeld("vector_store_file", row.id, row.owner)
    with pytest.raises(HeldByOther):
        await a.records.commit([required], durable=True)
    await a.records.commit([hold(row)], durable=True)
    await a.records.commit([required], durable=True)
    with pytest.raises(HeldByOther):
        await b.records.commit([required], durable=True)


async def test_a_process_that_leaves_frees_its_objects(shared: SharedStore) -> None:
    async with shared.open() as b:
        async with shared.open() as a:
            row = await queued_run(a, held=True)
        await b.records.commit([hold(row)], durable=True)


async def test_files_that_others_index_are_not_listed(pair: Pair) -> None:
    a, b = pair
    stored, of = file(), vector_store()
    row = store_file(of, stored, status="in_progress")
    await put(a.records, stored, of, row)
    await a.records.commit([hold(row)], durable=True)
    assert await a.file_queries.waiting(5) == [row]
    assert await b.file_queries.waiting(5) == []


@pytest.mark.parametrize("is_private", [False, True], ids=["body", "private"])
async def test_a_changed_value_refuses_the_commit(pair: Pair, *, is_private: bool) -> None:
    a, b = pair
    row = thread()
    await put(a.records, row)
    first, second = {"x": [1]}, {"x": [2]}

    def change(value: object) -> Patch:
        body, private = ({}, {"metadata": value}) if is_private else ({"metadata": value}, {})
        return Patch("thread", row.id, row.owner, body, private)

    def unchanged(value: object) -> RequireUnchanged:
        return RequireUnchanged("thread", row.id, row.owner, "metadata", value, is_private=is_private)

    await a.records.commit([change(first)], durable=True)
    await b.records.commit([unchanged(first), change(second)], durable=True)
    with pytest.raises(StaleRow):
        await a.records.commit([unchanged(first), change(first)], durable=True)
    with pytest.raises(MissingRow):
        await a.records.commit([RequireUnchanged("thread", "thread_x", "ann", "metadata", {})], durable=True)
