"""The port of checkpoints: look-ups, replacement, retention and removal. Every backend must pass."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from store.ports import CheckpointKey, DropCheckpoints, StoredCheckpoint
from store.sqlite.store import SqliteStore, open_store
from tests.store.rows import checkpoint, checkpoint_write, put_run


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = await open_store()
    yield opened
    await opened.close()


def ids(found: Sequence[StoredCheckpoint]) -> list[str]:
    return [one.key.id for one in found]


async def test_an_uncommitted_checkpoint_is_found_by_id_and_as_the_newest(store: SqliteStore) -> None:
    older, newer = checkpoint("run_1", "1"), replace(checkpoint("run_1", "2", b"newer"), parent_id="1")
    store.checkpoints.put(older)
    store.checkpoints.put(newer)
    assert await store.checkpoints.get("run_1", "", "1") == replace(older, writes=[])
    assert await store.checkpoints.get("run_1", "", None) == replace(newer, writes=[])


@pytest.mark.parametrize(
    ("run_id", "namespace", "id"), [("run_2", "", None), ("run_1", "sub", None), ("run_1", "", "9")]
)
async def test_another_run_namespace_or_id_finds_nothing(
    store: SqliteStore, run_id: str, namespace: str, id: str | None
) -> None:
    store.checkpoints.put(checkpoint("run_1", "1"))
    assert await store.checkpoints.get(run_id, namespace, id) is None


async def test_the_same_key_replaces_a_checkpoint(store: SqliteStore) -> None:
    store.checkpoints.put(checkpoint("run_1", "1", b"first"))
    store.checkpoints.put(checkpoint("run_1", "1", b"second"))
    (found,) = await store.checkpoints.find(run_id="run_1")
    assert found.state == ("json", b"second")


@pytest.mark.parametrize(("index", "kept"), [(0, b"first"), (-1, b"second")], ids=["own result", "special channel"])
async def test_a_second_write_is_kept_for_special_channels_only(store: SqliteStore, index: int, kept: bytes) -> None:
    key = CheckpointKey("run_1", "", "1")
    store.checkpoints.put(checkpoint("run_1", "1"))
    for value in (b"first", b"second"):
        store.checkpoints.put_writes(key, [checkpoint_write(value, index=index)])
    found = await store.checkpoints.get("run_1", "", "1")
    assert found is not None
    assert [write.value for write in found.writes] == [("json", kept)]


async def test_writes_are_ordered_by_task_and_index(store: SqliteStore) -> None:
    store.checkpoints.put(checkpoint("run_1", "1"))
    writes = [checkpoint_write(task_id=task, index=index) for task, index in (("b", 0), ("a", 1), ("a", 0))]
    store.checkpoints.put_writes(CheckpointKey("run_1", "", "1"), writes)
    found = await store.checkpoints.get("run_1", "", "1")
    assert found is not None
    assert [(write.task_id, write.index) for write in found.writes] == [("a", 0), ("a", 1), ("b", 0)]


async def test_find_lists_matches_newest_first(store: SqliteStore) -> None:
    for id in ("1", "3", "2"):
        store.checkpoints.put(checkpoint("run_1", id))
    store.checkpoints.put(checkpoint("run_2", "4"))
    assert ids(await store.checkpoints.find()) == ["4", "3", "2", "1"]
    assert ids(await store.checkpoints.find(run_id="run_1", before="3")) == ["2", "1"]
    assert ids(await store.checkpoints.find(run_id="run_1", namespace="", id="2")) == ["2"]
    assert ids(await store.checkpoints.find(namespace="sub")) == []


async def test_large_checkpoints_remove_all_but_the_newest_two(store: SqliteStore) -> None:
    for number in range(1, 5):
        parent_id = str(number - 1) if number > 1 else None
        store.checkpoints.put(replace(checkpoint("run_1", str(number), b"x" * 100_000), parent_id=parent_id))
    assert ids(await store.checkpoints.find(run_id="run_1")) == ["4", "3"]


@pytest.mark.parametrize("how", ["drop", "change"])
async def test_dropping_removes_the_checkpoints_of_one_run(store: SqliteStore, how: str) -> None:
    _, run = await put_run(store)
    for run_id in (run.id, "run_2"):
        store.checkpoints.put(checkpoint(run_id, "1"))
    if how == "drop":
        await store.checkpoints.drop(run.id)
    else:
        await store.commit([DropCheckpoints(run.id)], durable=False)
    assert [one.key.run_id for one in await store.checkpoints.find()] == ["run_2"]
