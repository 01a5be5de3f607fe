"""Old objects are collected when the server is idle, or when enough garbage can have accumulated."""

import asyncio
import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from api.gc_tuning import due, tuned_interpreter


@pytest.fixture(autouse=True)
def nothing_frozen() -> Iterator[None]:
    """Start each test as a server starts, with nothing excluded from collection (see `tests.conftest`)."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


class Ring:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.ring = self


def old_garbage() -> "weakref.ref[Ring]":
    ring = Ring()
    gc.collect(0)  # it is in use, so it becomes old
    return weakref.ref(ring)


async def gone(garbage: "weakref.ref[Ring]", limit_s: float) -> bool:
    for _ in range(int(limit_s / 0.05)):
        if garbage() is None:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_old_garbage_is_collected_when_idle_and_kept_under_load() -> None:
    executing = 1000
    async with tuned_interpreter(lambda: executing):
        garbage = old_garbage()
        for _ in range(100):
            gc.collect(0)
        assert not await gone(garbage, 1.5)
        executing = 0
        assert await gone(garbage, 3.0)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "collector"]


async def test_the_interpreter_is_restored_at_the_end() -> None:
    before = gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval()
    async with tuned_interpreter(lambda: 0):
        during = gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval()
    assert all(old != new for old, new in zip(before, during, strict=True))
    assert (gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval()) == before


@pytest.mark.parametrize(
    ("young", "old", "executing", "generation"),
    [
        (19, 0, 0, None),
        (20, 0, 0, 1),
        (20, 0, 1, None),
        (249, 0, 50, None),
        (250, 0, 50, 1),
        (1199, 500, 1000, None),
        (1200, 500, 1000, 1),
        (20, 99, 0, 1),
        (20, 100, 0, 2),
    ],
)
def test_more_active_runs_delay_collections_of_old_objects(
    young: int, old: int, executing: int, generation: int | None
) -> None:
    assert due((0, young, old), executing) == generation
