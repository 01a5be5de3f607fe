"""Which commits come next: owners get equal shares of time, and each owner's commits keep their order."""

import asyncio

from store.ports import Row
from store.sqlite.commit_queues import CommitQueues
from store.sqlite.transactions import Commit


def queue_of(*commits: Commit) -> CommitQueues:
    queues = CommitQueues()
    for commit in commits:
        queues.put(commit)
    return queues


def made(owner: str, duration_s: float = 0.0) -> Commit:
    future: asyncio.Future[list[Row]] = asyncio.Future()
    return Commit([], False, frozenset(), future, size=1, owner=owner, duration_s=duration_s)


async def test_an_owner_waits_until_others_have_had_as_much_time() -> None:
    queues = queue_of(*(made("ann", 1.0) for _ in range(3)), *(made("bob", 0.4) for _ in range(6)))
    order = []
    while queues:
        batch = queues.take(1, 100)
        queues.charge(batch)
        order += [commit.owner for commit in batch]
    assert order == ["ann", "bob", "bob", "bob", "ann", "bob", "bob", "ann", "bob"]


async def test_an_idle_owner_collects_no_time() -> None:
    queues = queue_of(*(made("ann", 1.0) for _ in range(20)))
    for _ in range(10):
        queues.charge(queues.take(1, 100))
    for _ in range(20):
        queues.put(made("bob", 1.0))
    order = []
    for _ in range(10):
        batch = queues.take(1, 100)
        queues.charge(batch)
        order += [commit.owner for commit in batch]
    assert order.count("ann") == 5


async def test_commits_that_have_not_run_come_before_later_ones_of_their_owner() -> None:
    commits = [made(owner) for owner in ("ann", "bob", "ann", "bob")]
    queues = queue_of(*commits)
    taken = queues.take(4, 100)
    assert taken == commits
    later = [made("ann"), made("bob")]
    queues.put(later[0])
    queues.charge(taken[:1])
    queues.put_back(taken[1:])
    queues.put(later[1])
    assert len(queues) == 5
    rest = queues.take(5, 100)
    assert [commit for commit in rest if commit.owner == "ann"] == [taken[2], later[0]]
    assert [commit for commit in rest if commit.owner == "bob"] == [taken[1], taken[3], later[1]]


async def test_a_batch_has_a_limit_of_commits_and_of_bytes() -> None:
    queues = queue_of(*(made(owner) for owner in "abcdefgh"))
    assert len(queues.take(3, 100)) == 3
    assert len(queues.take(100, 2)) == 2
    assert len(queues.take(100, 100)) == 3
    assert not queues


async def test_idle_owners_are_forgotten() -> None:
    queues = CommitQueues()
    for number in range(5_000):
        queues.put(made(f"owner {number}", 0.001))
        queues.charge(queues.take(1, 100))
    assert queues._times == {}
