"""Every rule of `store/ports/records.py`, for every backend."""

import asyncio
import gc
import logging
from typing import Any, get_args

import pytest

from store.ports import (
    Append,
    Change,
    Delete,
    Insert,
    Kind,
    PageQuery,
    Patch,
    RequireNewest,
    RequireNoActiveRun,
    Retract,
    Row,
    Store,
)
from tests.store.conftest import Opener
from tests.store.rows import (
    ENDED,
    STATUSES,
    assistant,
    event,
    file,
    file_batch,
    item,
    message,
    put,
    put_run,
    run,
    step,
    store_file,
    thread,
    upload,
    vector_store,
)
from wire.errors import InvalidRequest, MissingRow, StaleThread, StatusConflict, StoreError, ThreadBusy
from wire.status import ACTIVE

# --- rows -------------------------------------------------------------------------------------------------------------


async def one_row_of_each(store: Store) -> dict[Kind, Row]:
    """Return one row of each kind, all of one thread and run, or of one vector store and batch."""
    a, t, f, v = assistant(), thread(), file(), vector_store()
    r, b = run(t), file_batch(v)
    rows = [a, t, r, message(t, run_id=r.id), item(t, run_id=r.id), step(r), f, v, b, store_file(v, f, b), upload()]
    await put(store, *rows)
    return {row.kind: row for row in rows}


@pytest.mark.parametrize("kind", get_args(Kind))
async def test_an_inserted_row_is_returned_unchanged(store: Store, kind: Kind) -> None:
    row = (await one_row_of_each(store))[kind]
    assert await store.get(kind, row.id, "ann") == row


@pytest.mark.parametrize("kind", get_args(Kind))
async def test_a_row_of_another_owner_looks_unknown(store: Store, kind: Kind) -> None:
    row = (await one_row_of_each(store))[kind]
    assert await store.get(kind, row.id, "bob") is None
    listed = await store.page(kind, "bob", PageQuery(), thread_id=row.thread_id, run_id=row.run_id)
    assert listed.rows == []
    for change in (Patch(kind, row.id, "bob", {"x": 1}), Delete(kind, row.id, "bob")):
        with pytest.raises(MissingRow) as missed:
            await store.commit([change], durable=False)
        assert (missed.value.kind, missed.value.id) == (kind, row.id)
    assert await store.get(kind, row.id, "ann") == row


@pytest.mark.parametrize("kind", ["message", "item", "run", "step"])
async def test_get_compares_the_thread_and_the_run(store: Store, kind: Kind) -> None:
    rows = await one_row_of_each(store)
    row, run_id = rows[kind], rows["run"].id
    assert await store.get(kind, row.id, "ann", thread_id=row.thread_id) == row
    assert await store.get(kind, row.id, "ann", thread_id="thread_other") is None
    if kind != "run":
        assert await store.get(kind, row.id, "ann", thread_id=row.thread_id, run_id=run_id) == row
        assert await store.get(kind, row.id, "ann", run_id="run_other") is None


async def test_an_id_of_another_kind_is_unknown(store: Store) -> None:
    rows = await one_row_of_each(store)
    assert await store.get("thread", rows["assistant"].id, "ann") is None


async def test_text_of_any_kind_is_preserved(store: Store) -> None:
    row = assistant(name="Zoë 🦉 \x00 \u2028 'quoted' \"x\"", n=2**53 + 1, f=0.1, none=None, deep={"a": [1, {"b": []}]})
    await put(store, row)
    found = await store.get("assistant", row.id, "ann")
    assert found is not None
    assert found.body == row.body


async def test_a_private_part_is_separate_from_the_body(store: Store) -> None:
    row = assistant()
    row = Row("assistant", row.id, "ann", row.body, private={"tools": [{"auth": "secret"}]})
    await put(store, row)
    found = await store.get("assistant", row.id, "ann")
    assert found == row
    assert "secret" not in str(found.body if found else "secret")


async def test_a_commit_is_a_snapshot_of_its_arguments(store: Store) -> None:
    row = thread()
    patch = Patch("thread", row.id, "ann", {"metadata": {"a": "1"}})
    asked = store.commit([Insert(row), patch], durable=False)
    row.body["metadata"]["late"] = "x"
    patch.body["metadata"]["late"] = "x"
    inserted, patched = await asked
    assert (inserted.body["metadata"], patched.body["metadata"]) == ({}, {"a": "1"})


async def test_an_id_is_used_once(store: Store) -> None:
    row = thread()
    await put(store, row)
    with pytest.raises(StoreError, match=row.id):
        await put(store, row)


# --- changes ----------------------------------------------------------------------------------------------------------


async def test_a_commit_returns_the_row_after_each_change_in_order(store: Store) -> None:
    t = thread()
    r = run(t)
    changes: list[Change] = [
        Insert(t),
        RequireNoActiveRun(t.id, "ann"),
        Insert(r),
        Append(r.id, [event(0)]),
        Patch("run", r.id, "ann", {"status": "in_progress"}),
        Patch("thread", t.id, "ann", {"metadata": {"a": "b"}}),
    ]
    rows = await store.commit(changes, durable=True)
    assert [(row.kind, row.body.get("status"), row.body.get("metadata")) for row in rows] == [
        ("thread", None, {}),
        ("run", "queued", None),
        ("run", "in_progress", None),
        ("thread", None, {"a": "b"}),
    ]


async def test_a_patch_merges_top_level_keys_and_stores_none(store: Store) -> None:
    row = assistant(metadata={"a": "1"}, name="n", model="m")
    await put(store, Row("assistant", row.id, "ann", row.body, private={"x": 1, "y": 2}))
    change = Patch("assistant", row.id, "ann", {"metadata": {"b": "2"}, "name": None}, private={"y": 3})
    await store.commit([change], durable=False)
    found = await store.get("assistant", row.id, "ann")
    assert found is not None
    assert found.body == {**row.body, "metadata": {"b": "2"}, "name": None}
    assert found.private == {"x": 1, "y": 3}


async def test_a_refused_change_refuses_the_complete_commit(store: Store) -> None:
    t, other = thread(), thread()
    await put(store, t)
    refused = [Insert(other), Patch("thread", t.id, "ann", {"x": 1}), Delete("message", "msg_none", "ann")]
    with pytest.raises(MissingRow):
        await store.commit(refused, durable=True)
    assert await store.get("thread", other.id, "ann") is None
    assert await store.get("thread", t.id, "ann") == t


@pytest.mark.parametrize("status", STATUSES)
async def test_compare_and_set_requires_one_of_the_given_statuses(store: Store, status: str) -> None:
    t, r = await put_run(store, status)
    change = Patch("run", r.id, "ann", {"status": "failed"}, only_if=frozenset({"queued", "in_progress"}))
    if status in ("queued", "in_progress"):
        [after] = await store.commit([change], durable=False)
        assert after.body["status"] == "failed"
    else:
        with pytest.raises(StatusConflict) as conflict:
            await store.commit([change], durable=False)
        assert conflict.value.status == status
        assert await store.get("run", r.id, "ann", thread_id=t.id) == r


async def test_of_two_concurrent_compare_and_sets_one_wins(store: Store) -> None:
    _, r = await put_run(store)
    changes = [Patch("run", r.id, "ann", {"status": s}, only_if=frozenset({"queued"})) for s in ("a", "b")]
    results = await asyncio.gather(*(store.commit([c], durable=True) for c in changes), return_exceptions=True)
    assert [type(result) for result in results] == [list, StatusConflict]


# --- the thread lock --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
async def test_an_active_run_locks_its_thread_until_it_ends(store: Store, status: str) -> None:
    t, r = await put_run(store, status)
    second = run(t)
    active = await store.active_run(t.id, "ann")
    if status in ACTIVE:
        assert active == r
        for changes in ([Insert(second)], [RequireNoActiveRun(t.id, "ann"), Insert(message(t))]):
            with pytest.raises(ThreadBusy) as busy:
                await store.commit(changes, durable=False)
            assert (busy.value.thread_id, busy.value.run_id) == (t.id, r.id)
    else:
        assert active is None
        await store.commit([RequireNoActiveRun(t.id, "ann"), Insert(second)], durable=False)
        assert await store.active_run(t.id, "ann") == second


async def test_of_many_concurrent_runs_one_gets_the_thread(store: Store) -> None:
    t = thread()
    await put(store, t)
    runs = [run(t) for _ in range(20)]
    results = await asyncio.gather(*(put(store, r) for r in runs), return_exceptions=True)
    assert results[0] == [runs[0]]
    assert all(isinstance(result, ThreadBusy) and result.run_id == runs[0].id for result in results[1:])


async def test_a_run_cannot_become_active_next_to_another(store: Store) -> None:
    t, first = await put_run(store, "completed")
    second = run(t)
    await put(store, second)
    with pytest.raises(ThreadBusy) as busy:
        await store.commit([Patch("run", first.id, "ann", {"status": "queued"})], durable=False)
    assert busy.value.run_id == second.id


async def test_other_threads_are_not_locked(store: Store) -> None:
    await put_run(store)
    await put_run(store)
    t, _ = await put_run(store, "completed")
    await store.commit([RequireNoActiveRun(t.id, "ann")], durable=False)


async def test_run_start_returns_what_each_part_reads_alone(store: Store) -> None:
    a, t, query = assistant(), thread(), PageQuery(limit=2)
    await put(store, a, t)
    empty = await store.run_start("ann", t.id, a.id, query.limit)
    assert (empty.assistant, empty.thread, empty.active, empty.newest.rows) == (a, t, None, [])
    written = [message(t) for _ in range(3)]
    active = run(t)
    put_soon = store.commit([Insert(row) for row in (*written, active)], durable=False)
    found = await store.run_start("ann", t.id, a.id, query.limit)  # it sees what was requested before it
    assert found.active == active == await store.active_run(t.id, "ann")
    assert found.newest == await store.page("message", "ann", query, thread_id=t.id)
    assert found.newest.rows == written[:0:-1]
    assert found.newest.has_more
    await put_soon
    foreign = await store.run_start("bob", t.id, a.id, query.limit)
    assert (foreign.assistant, foreign.thread, foreign.active, foreign.newest.rows) == (None, None, None, [])


async def test_entries_are_measured_from_a_message_on(store: Store) -> None:
    rows, others = await one_row_of_each(store), await one_row_of_each(store)
    t, first = rows["thread"].id, rows["message"].id
    large = [message(rows["thread"], content=[{"type": "text", "text": {"value": "é" * 5_000}}]) for _ in range(3)]
    put_soon = store.commit([Insert(row) for row in large], durable=False)
    # it sees what was requested before it
    found = await store.entries_from("ann", t, first, limit=100, max_bytes=10**6)
    page = await store.page("entry", "ann", PageQuery(order="asc", limit=100), thread_id=t)
    start = [row.id for row in page.rows].index(first)
    assert [(entry.kind, entry.id) for entry in found] == [(row.kind, row.id) for row in page.rows[start:]]
    assert all(10_000 < entry.size < 11_000 for entry in found[-3:])  # bytes, not characters
    await put_soon
    assert await store.entries_from("ann", t, first, limit=1, max_bytes=10**6) == found[:2]
    assert await store.entries_from("ann", t, large[0].id, limit=100, max_bytes=5_000) == found[-3:-1]
    for owner, thread_id, message_id in (("bob", t, first), ("ann", others["thread"].id, first), ("ann", t, "msg_no")):
        assert await store.entries_from(owner, thread_id, message_id, limit=100, max_bytes=10**6) == []
    await store.commit([Delete("thread", t, "ann")], durable=False)
    assert await store.entries_from("ann", t, first, limit=100, max_bytes=10**6) == []


async def test_an_active_run_is_visible_to_its_owner_only(store: Store) -> None:
    t, _ = await put_run(store)
    assert await store.active_run(t.id, "bob") is None
    with pytest.raises(MissingRow):
        await store.commit([RequireNoActiveRun(t.id, "bob")], durable=False)


@pytest.mark.parametrize("owner", ["ann", "bob"], ids=["no thread", "another owner's"])
async def test_nothing_is_added_to_a_missing_thread(store: Store, owner: str) -> None:
    t = thread()
    if owner == "bob":
        await put(store, t)
    r = Row("run", run(t).id, owner, run(t).body, thread_id=t.id)
    for row in (message(t, owner=owner), r, step(r)):
        with pytest.raises(MissingRow) as missed:
            await put(store, row)
        assert (missed.value.kind, missed.value.id) == ("thread", t.id)


# --- deleting ---------------------------------------------------------------------------------------------------------


async def test_a_deleted_thread_removes_everything_below_it(store: Store) -> None:
    rows, others = await one_row_of_each(store), await one_row_of_each(store)
    for each in (rows, others):
        await store.commit([Append(each["run"].id, [event(0)])], durable=False)
    await store.commit([Delete("thread", rows["thread"].id, "ann")], durable=True)
    for kind in ("thread", "run", "message", "item", "step"):
        assert await store.get(kind, rows[kind].id, "ann") is None
        assert await store.get(kind, others[kind].id, "ann") == others[kind]
    assert await store.events(rows["run"].id, after=-1, limit=10) == []
    assert len(await store.events(others["run"].id, after=-1, limit=10)) == 1
    assert [row.id for row in await store.unfinished()] == [others["run"].id]
    assert await store.get("assistant", rows["assistant"].id, "ann") is not None


async def test_a_deleted_run_removes_steps_and_log_and_frees_the_thread(store: Store) -> None:
    rows = await one_row_of_each(store)
    r = rows["run"]
    await store.commit([Append(r.id, [event(0)]), Delete("run", r.id, "ann")], durable=False)
    assert await store.get("step", rows["step"].id, "ann") is None
    assert await store.events(r.id, after=-1, limit=10) == []
    assert await store.get("message", rows["message"].id, "ann") == rows["message"]
    await store.commit([RequireNoActiveRun(rows["thread"].id, "ann")], durable=False)


# --- pages ------------------------------------------------------------------------------------------------------------


async def messages(store: Store, count: int) -> tuple[Row, list[str]]:
    t = thread()
    rows = [message(t) for _ in range(count)]
    await put(store, t, *rows)
    return t, [row.id for row in rows]


async def listed(store: Store, t: Row, **query: Any) -> tuple[list[str], bool]:
    page = await store.page("message", "ann", PageQuery(**query), thread_id=t.id)
    return [row.id for row in page.rows], page.has_more


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_consecutive_pages_are_the_list_and_has_more_ends_them(store: Store, order: str, limit: int) -> None:
    t, ids = await messages(store, 7)
    seen: list[str] = []
    more = True
    while more:
        found, more = await listed(store, t, limit=limit, order=order, after=seen[-1] if seen else None)
        seen += found
    assert seen == (ids if order == "asc" else ids[::-1])
    assert await listed(store, t, limit=limit, order=order, after=seen[-1]) == ([], False)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_page_is_limited_in_bytes(store: Store, order: str) -> None:
    """Each page has at least one row, and all pages together are the list, forwards and backwards."""
    t = thread()
    sizes = [5_000_000, 10, 2_000_000, 1_900_000, 2_000_000, 2_000_000, 5_000_000, 10]
    rows = [message(t, text="x" * size) for size in sizes]
    await put(store, t, *rows)
    inorder = [row.id for row in (rows if order == "asc" else rows[::-1])]
    seen: list[str] = []
    more, pages = True, 0
    while more:
        page = await store.page(
            "message", "ann", PageQuery(100, order, after=seen[-1] if seen else None), thread_id=t.id
        )  # type: ignore[arg-type]
        assert len(page.rows) == 1 or sum(len(row.body["text"]) for row in page.rows) < 4_300_000
        seen, more, pages = seen + [row.id for row in page.rows], page.has_more, pages + 1
    assert seen == inorder
    assert 4 <= pages <= 7
    back: list[str] = []
    while found := (await listed(store, t, limit=100, order=order, before=back[0] if back else inorder[-1]))[0]:
        back = found + back
    assert back == inorder[:-1]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_before_gives_the_page_that_ends_just_before_the_cursor(store: Store, order: str) -> None:
    t, ids = await messages(store, 7)
    inorder = ids if order == "asc" else ids[::-1]
    for at, cursor in enumerate(inorder):
        found, more = await listed(store, t, limit=3, order=order, before=cursor)
        assert found == inorder[max(0, at - 3) : at]
        assert more is bool(found)  # at least the cursor's own row follows


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_after_and_before_together_are_a_range_from_its_start(store: Store, order: str) -> None:
    t, ids = await messages(store, 7)
    inorder = ids if order == "asc" else ids[::-1]
    span = {"order": order, "after": inorder[0], "before": inorder[5]}
    assert await listed(store, t, limit=3, **span) == (inorder[1:4], True)
    assert await listed(store, t, limit=4, **span) == (inorder[1:5], False)


async def test_an_empty_list_is_an_empty_page(store: Store) -> None:
    t, _ = await messages(store, 0)
    assert await listed(store, t) == ([], False)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_deleting_page_by_page_sees_every_row_once(store: Store, order: str) -> None:
    t, ids = await messages(store, 9)
    seen: list[str] = []
    while True:
        found, _ = await listed(store, t, limit=2, order=order, after=seen[-1] if seen else None)
        if not found:
            break
        seen += found
        await store.commit([Delete("message", id, "ann") for id in found], durable=False)
    assert seen == (ids if order == "asc" else ids[::-1])


async def entries(store: Store) -> tuple[Row, list[Row]]:
    t = thread()
    rows = [item(t), message(t), item(t), item(t), message(t), message(t), item(t)]
    await put(store, t, *rows)
    return t, rows


async def test_messages_and_items_are_listed_in_one_order(store: Store) -> None:
    t, rows = await entries(store)
    await entries(store)
    for kind in ("message", "item", "entry"):
        page = await store.page(kind, "ann", PageQuery(order="asc"), thread_id=t.id)
        assert page.rows == [row for row in rows if kind in (row.kind, "entry")]
    assert (await store.run_start("ann", t.id, "asst_none", 3)).newest.rows == rows[:3:-1]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 6])
@pytest.mark.parametrize("deletes", [False, True], ids=["there", "deleted"])
async def test_pages_of_entries_continue_from_messages_and_items(
    store: Store, order: Any, limit: int, deletes: bool
) -> None:
    t, rows = await entries(store)
    seen: list[Row] = []
    more = True
    while more:
        query = PageQuery(limit=limit, order=order, after=seen[-1].id if seen else None)
        page = await store.page("entry", "ann", query, thread_id=t.id)
        seen, more = seen + page.rows, page.has_more
        if deletes:
            await store.commit([Delete(row.kind, row.id, "ann") for row in page.rows], durable=False)
    assert seen == (rows if order == "asc" else rows[::-1])


@pytest.mark.parametrize("kind", ["message", "item"])
async def test_a_cursor_of_another_kind_is_refused(store: Store, kind: Any) -> None:
    t, rows = await entries(store)
    other = next(row for row in rows if row.kind != kind)
    with pytest.raises(InvalidRequest):
        await store.page(kind, "ann", PageQuery(after=other.id), thread_id=t.id)


async def test_an_item_is_the_newest_entry_of_its_thread(store: Store) -> None:
    t, rows = await entries(store)
    await store.commit([RequireNewest(t.id, "ann", rows[-1].id)], durable=False)
    with pytest.raises(StaleThread):
        await store.commit([RequireNewest(t.id, "ann", rows[-2].id)], durable=False)


async def test_a_deleted_thread_is_still_a_valid_cursor(store: Store) -> None:
    rows = [thread() for _ in range(3)]
    await put(store, *rows)
    await store.commit([Delete("thread", rows[1].id, "ann")], durable=False)
    page = await store.page("thread", "ann", PageQuery(order="asc", after=rows[1].id))
    assert [row.id for row in page.rows] == [rows[2].id]


async def test_the_position_of_a_deleted_last_row_is_not_reused(store: Store) -> None:
    t, ids = await messages(store, 2)
    await store.commit([Delete("message", ids[1], "ann")], durable=False)
    new = message(t)
    await put(store, new)
    assert await listed(store, t, order="asc", after=ids[1]) == ([new.id], False)


@pytest.mark.parametrize("param", ["after", "before"])
@pytest.mark.parametrize("deleted", [False, True], ids=["there", "deleted"])
async def test_a_cursor_from_outside_the_list_is_refused(store: Store, param: str, deleted: bool) -> None:
    t, _ = await messages(store, 1)
    _, elsewhere = await messages(store, 1)
    foreign = thread("bob")
    his = message(foreign)
    await put(store, foreign, his)
    if deleted:
        gone = [Delete("message", elsewhere[0], "ann"), Delete("message", his.id, "bob")]
        await store.commit(gone, durable=False)
    for cursor in ("msg_never", elsewhere[0], his.id, t.id):
        with pytest.raises(InvalidRequest) as refused:
            await listed(store, t, **{param: cursor})
        assert refused.value.param == param


async def test_a_list_belongs_to_one_thread_or_run(store: Store) -> None:
    rows, others = await one_row_of_each(store), await one_row_of_each(store)
    t, r = rows["thread"], rows["run"]
    own = message(t)
    await put(store, own)
    of_run = await store.page("message", "ann", PageQuery(), thread_id=t.id, run_id=r.id)
    assert [row.id for row in of_run.rows] == [rows["message"].id]
    assert (await listed(store, t, order="asc"))[0] == [rows["message"].id, own.id]
    with pytest.raises(InvalidRequest):
        await store.page("message", "ann", PageQuery(after=own.id), thread_id=t.id, run_id=r.id)
    steps = await store.page("step", "ann", PageQuery(), thread_id=t.id, run_id=r.id)
    assert [row.id for row in steps.rows] == [rows["step"].id]
    runs = await store.page("run", "ann", PageQuery(), thread_id=others["thread"].id)
    assert [row.id for row in runs.rows] == [others["run"].id]


# --- unfinished runs --------------------------------------------------------------------------------------------------


async def test_unfinished_lists_all_owners_active_runs_oldest_first(store: Store) -> None:
    made = []
    for number, status in enumerate(STATUSES):
        t = thread("ann" if number % 2 else "bob")
        made.append(run(t, status, expires_at=100 * number if number else None))
        await put(store, t, made[-1])
    active = [r.id for r in made if r.body["status"] in ACTIVE]
    assert [row.id for row in await store.unfinished()] == active
    assert len(active) == len(STATUSES) - len(ENDED)
    assert [row.id for row in await store.unfinished(due_before=200)] == active[1:3]


async def test_unfinished_follows_patches(store: Store) -> None:
    _, r = await put_run(store)
    assert await store.unfinished(due_before=999) == []
    await store.commit([Patch("run", r.id, "ann", {"expires_at": 999})], durable=False)
    assert len(await store.unfinished(due_before=999)) == 1
    asked = store.commit([Patch("run", r.id, "ann", {"status": "expired", "expires_at": None})], durable=True)
    assert await store.unfinished() == []
    await asked


# --- event logs -------------------------------------------------------------------------------------------------------


async def test_a_log_is_read_from_every_number(store: Store) -> None:
    _, r = await put_run(store, events=5)
    whole = await store.events(r.id, after=-1, limit=100)
    assert whole == [event(number) for number in range(5)]
    for after in range(-1, 6):
        assert await store.events(r.id, after=after, limit=100) == whole[after + 1 :]
        assert await store.events(r.id, after=after, limit=2) == whole[after + 1 : after + 3]


async def test_numbers_can_have_gaps_and_are_ordered(store: Store) -> None:
    _, r = await put_run(store, events=2)
    await store.commit([Append(r.id, [event(1000), event(1001)])], durable=False)
    await store.commit([Append(r.id, [])], durable=False)
    assert [e.number for e in await store.events(r.id, after=-1, limit=9)] == [0, 1, 1000, 1001]


async def test_a_number_is_used_once_in_a_log(store: Store) -> None:
    _, r = await put_run(store, events=2)
    with pytest.raises(StoreError):
        await store.commit([Append(r.id, [event(2), event(1)])], durable=False)
    assert len(await store.events(r.id, after=-1, limit=9)) == 2


async def test_a_log_needs_an_existing_run(store: Store) -> None:
    with pytest.raises(MissingRow) as missed:
        await store.commit([Append("run_none", [event(0)])], durable=False)
    assert missed.value.kind == "run"


async def test_event_data_keeps_its_bytes(store: Store) -> None:
    _, r = await put_run(store)
    odd = event(0, value="ü \U0001f989 \x00 \n data:")
    await store.commit([Append(r.id, [odd])], durable=False)
    assert await store.events(r.id, after=-1, limit=1) == [odd]


async def test_retract_removes_exactly_the_events_of_the_named_objects(store: Store) -> None:
    _, r = await put_run(store)
    _, other = await put_run(store, events=1)
    log = [
        event(0, "thread.message.created", "msg_1"),
        event(1, "thread.message.delta", "msg_1"),
        event(2, "thread.run.step.delta", "step_1"),
        event(3, "thread.message.delta", "msg_2"),
        event(4, "thread.run.in_progress", r.id, step="step_1"),
    ]
    await store.commit([Append(r.id, log), Retract(r.id, frozenset({"msg_1", "step_1"}))], durable=False)
    assert [e.number for e in await store.events(r.id, after=-1, limit=9)] == [3, 4]
    assert len(await store.events(other.id, after=-1, limit=9)) == 1


async def test_a_commit_for_a_thread_that_has_changed_is_refused(store: Store) -> None:
    t, r = await put_run(store)
    with pytest.raises(StaleThread):
        await store.commit(
            [RequireNewest(t.id, t.owner, "msg_other"), Patch("run", r.id, t.owner, {"x": 1})], durable=False
        )
    await store.commit([RequireNewest(t.id, t.owner, None), Patch("run", r.id, t.owner, {"x": 2})], durable=False)
    first = message(t)
    with pytest.raises(StaleThread):
        await store.commit([Insert(first), RequireNewest(t.id, t.owner, None)], durable=False)
    await store.commit([Insert(first), RequireNewest(t.id, t.owner, first.id)], durable=False)


async def test_a_tolerant_patch_of_a_missing_row_does_nothing(store: Store) -> None:
    assert await store.commit([Patch("message", "msg_gone", "ann", {"x": 1}, if_exists=True)], durable=False) == []


# --- order and visibility ---------------------------------------------------------------------------------------------


async def test_a_read_of_a_thread_sees_earlier_queued_changes(store: Store) -> None:
    t, r = await put_run(store)
    for number in range(30):
        new = message(t)
        asked = store.commit([Insert(new)], durable=number % 2 == 0)
        page = await store.page("message", "ann", PageQuery(limit=1), thread_id=t.id)
        assert [row.id for row in page.rows] == [new.id]
        store.commit([Patch("run", r.id, "ann", {"n": number})], durable=False)
        active = await store.active_run(t.id, "ann")
        assert active is not None
        assert active.body["n"] == number
        store.commit([Append(r.id, [event(number)])], durable=False)
        assert len(await store.events(r.id, after=-1, limit=100)) == number + 1
        await asked


async def test_get_sees_a_queued_insert_patch_and_delete_of_its_row(store: Store) -> None:
    row = assistant()
    asked = [store.commit([Insert(row)], durable=True)]
    assert await store.get("assistant", row.id, "ann") == row
    asked.append(store.commit([Patch("assistant", row.id, "ann", {"name": "x"})], durable=True))
    found = await store.get("assistant", row.id, "ann")
    assert found is not None
    assert found.body["name"] == "x"
    asked.append(store.commit([Delete("assistant", row.id, "ann")], durable=True))
    assert await store.get("assistant", row.id, "ann") is None
    await asyncio.gather(*asked)


async def test_a_thread_that_is_being_deleted_is_not_found(store: Store) -> None:
    rows = await one_row_of_each(store)
    t = rows["thread"]
    asked = store.commit([Delete("thread", t.id, "ann")], durable=True)
    assert await store.get("message", rows["message"].id, "ann", thread_id=t.id) is None
    assert await store.active_run(t.id, "ann") is None
    await asked


async def test_commits_are_made_in_the_order_of_the_calls(store: Store) -> None:
    row = thread(n=-1)
    asked = [store.commit([Insert(row)], durable=False)]
    for number in range(200):
        change = Patch("thread", row.id, "ann", {"n": number})
        asked.append(store.commit([change], durable=number % 7 == 0))
    await asyncio.gather(*asked)
    assert [(await each)[0].body["n"] for each in asked] == list(range(-1, 200))


async def test_a_caller_that_is_cancelled_does_not_withdraw_its_commit(store: Store) -> None:
    t = thread()
    asked = store.commit([Insert(t)], durable=True)
    asked.cancel()
    assert await store.get("thread", t.id, "ann") == t


async def test_a_refusal_that_is_not_awaited_is_not_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        store.commit([Delete("thread", "thread_none", "ann")], durable=False)
        await store.unfinished()
        gc.collect()
    assert caplog.records == []


# --- closing ----------------------------------------------------------------------------------------------------------


async def test_close_commits_queued_changes(opener: Opener) -> None:
    store = await opener()
    asked = [store.commit([Insert(thread())], durable=False) for _ in range(100)]
    await store.close()
    assert all(each.done() and each.exception() is None for each in asked)


async def test_a_closed_store_raises_store_error_and_can_be_closed_again(opener: Opener) -> None:
    store = await opener()
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.commit([Insert(thread())], durable=True)
    with pytest.raises(StoreError, match="closed"):
        await store.get("thread", "thread_x", "ann")
