"""A read waits for the latest commit that affects the same object, and for no other."""

import asyncio

import pytest

from store.ports import Append, Delete, DropCheckpoints, Insert, Patch, RequireNoActiveRun, Retract
from store.sqlite.pending import Pending, unknown_thread
from store.sqlite.transactions import Commit
from tests.store.rows import event, message, run, step, thread


def commit(*touches: str, owner: str = "ann") -> Commit:
    return Commit([], False, frozenset(touches), asyncio.get_running_loop().create_future(), owner=owner)


async def test_a_reader_waits_for_the_latest_commit_of_its_thread() -> None:
    pending = Pending()
    first, second, other = commit("t"), commit("t"), commit("u")
    for each in (first, second, other):
        pending.add(each)
    waiting = asyncio.ensure_future(pending.wait_for("t"))
    for each, ends in ((first, False), (second, True)):
        await asyncio.sleep(0)
        pending.remove(each)
        await asyncio.wait([waiting], timeout=0.01)
        assert waiting.done() is ends
    pending.remove(other)


async def test_of_two_named_objects_the_later_commit_counts() -> None:
    pending = Pending()
    first, second = commit("t"), commit(unknown_thread("ann"))
    for each in (first, second):
        pending.add(each)
    waiting = asyncio.ensure_future(pending.wait_for("t", unknown_thread("ann")))
    for each, ends in ((first, False), (second, True)):
        await asyncio.sleep(0)
        pending.remove(each)
        await asyncio.wait([waiting], timeout=0.01)
        assert waiting.done() is ends


async def test_no_read_waits_for_later_commits() -> None:
    pending = Pending()
    first, second = commit("t"), commit("t")
    pending.add(first)
    waiting = asyncio.ensure_future(pending.wait_for("t"))
    await asyncio.sleep(0)
    pending.add(second)
    pending.remove(first)
    await asyncio.wait_for(waiting, 1)


async def test_a_read_without_pending_changes_does_not_wait() -> None:
    pending = Pending()
    pending.add(commit("t"))
    await asyncio.wait_for(pending.wait_for("u", None), 1)


async def test_unfinished_waits_for_the_last_of_all() -> None:
    pending = Pending()
    commits = [commit("t"), commit("u")]
    for each in commits:
        pending.add(each)
    waiting = asyncio.ensure_future(pending.wait_for_all())
    await asyncio.sleep(0)
    pending.remove(commits[0])
    await asyncio.wait([waiting], timeout=0.01)
    assert not waiting.done()
    pending.remove(commits[1])
    await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize("ends_last", [0, 1])
async def test_wait_for_all_waits_for_the_commits_of_every_owner(ends_last: int) -> None:
    pending = Pending()
    commits = [commit("t"), commit("u", owner="bob")]
    for each in commits:
        pending.add(each)
    waiting = asyncio.ensure_future(pending.wait_for_all())
    await asyncio.sleep(0)
    pending.remove(commits[1 - ends_last])
    await asyncio.wait([waiting], timeout=0.01)
    assert not waiting.done()
    pending.remove(commits[ends_last])
    await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize("known", [True, False])
def test_a_patch_of_an_unknown_object_affects_every_thread(known: bool) -> None:
    pending, of = Pending(), thread()
    r = run(of)
    if known:
        pending.remember_thread(r)
    assert pending.touched_by([Patch("run", r.id, "ann")]) == {r.id, of.id if known else unknown_thread("ann")}


def test_changes_affect_objects_threads_and_logs() -> None:
    pending, of = Pending(), thread()
    r, m = run(of), message(of)
    s = step(r)
    assert pending.touched_by([Insert(of)]) == {of.id}
    assert pending.touched_by([Insert(r), Insert(m), Delete("message", m.id, "ann")]) == {of.id, r.id, m.id}
    assert pending.touched_by([Insert(s)]) == {of.id, s.id}
    for change in (Append(r.id, [event(0)]), Retract(r.id, frozenset()), DropCheckpoints(r.id)):
        assert pending.touched_by([change]) == {r.id}
    assert pending.touched_by([Delete("thread", of.id, "ann"), Delete("assistant", "asst_x", "ann")]) == {
        of.id,
        "asst_x",
    }
    assert pending.touched_by([RequireNoActiveRun(of.id, "ann")]) == frozenset()


def test_a_change_of_an_unknown_thread_delays_no_other_owner() -> None:
    pending = Pending()
    touched = pending.touched_by([Patch("run", "run_1", "ann"), Delete("message", "msg_1", "ann")])
    assert unknown_thread("ann") in touched
    assert unknown_thread("bob") not in touched
