"""All garbage is collected, and the collections take a small share of the time."""

import asyncio
import gc
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from api.gc_tuning import pause_after, tuned_interpreter


@pytest.fixture(scope="module", autouse=True)
def nothing_frozen() -> Iterator[None]:
    """Start as a server starts, with nothing excluded from collection (see `tests.conftest`).

    Both collections examine the objects of all tests, so there is one for the module and not for each test.
    """
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


class Ring:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.ring = self


def garbage_of(generation: int) -> "weakref.ref[Ring]":
    """Return garbage that has survived as many collections while it was in use."""
    ring = Ring()
    for each in range(generation):
        gc.collect(each)
    return weakref.ref(ring)


async def collected(garbage: "weakref.ref[Ring]", limit_s: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while garbage() is not None:
                await asyncio.sleep(0.05)
    return garbage() is None


@pytest.mark.parametrize("generation", [0, 1])
async def test_garbage_of_new_objects_is_collected_soon(generation: int) -> None:
    async with tuned_interpreter():
        assert await collected(garbage_of(generation), 60)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "collector"]


async def test_garbage_of_old_objects_is_collected_later() -> None:
    async with tuned_interpreter(full_s=4):
        garbage = garbage_of(2)
        assert not await collected(garbage, 2.5)
        assert await collected(garbage, 60)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read from /proc")
async def test_garbage_of_old_objects_is_collected_when_the_process_grows() -> None:
    async with tuned_interpreter(growth_bytes=50_000_000):
        await asyncio.sleep(0)
        garbage = garbage_of(2)
        assert not await collected(garbage, 2.5)
        grown = b"x" * 100_000_000
        assert await collected(garbage, 60)
        assert len(grown) == 100_000_000


async def test_growth_counts_from_the_smallest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a process whose memory the system has reclaimed could grow by much more."""
    sizes = iter([300, 100, 100])
    monkeypatch.setattr("api.gc_tuning._resident_bytes", lambda: next(sizes, 200))
    async with tuned_interpreter(growth_bytes=100):
        await asyncio.sleep(0)
        assert await collected(garbage_of(2), 60)


async def test_the_interpreter_starts_no_collection_of_old_objects() -> None:
    """Such a collection takes 0.3 s with a thousand executing runs."""
    async with tuned_interpreter():
        await asyncio.sleep(0)
        before = [generation["collections"] for generation in gc.get_stats()]
        kept = [[] for _ in range(300_000)]  # type: ignore[var-annotated]
        after = [generation["collections"] for generation in gc.get_stats()]
    assert len(kept) == 300_000
    assert after[0] > before[0] + 10
    assert after[1:] == before[1:]


async def test_the_interpreter_is_restored_at_the_end() -> None:
    before = gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval()
    async with tuned_interpreter():
        during = gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval()
    assert all(old != new for old, new in zip(before, during, strict=True))
    assert (gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval()) == before


@pytest.mark.parametrize(
    ("collection_s", "pause_s", "pause_if_grown_s"),
    [(0.0, 1.0, 1.0), (0.003, 1.0, 1.0), (0.01, 1.0, 1.0), (0.3, 30.0, 1.5), (2.0, 200.0, 10.0)],
)
def test_collections_take_at_most_a_share_of_the_time(
    collection_s: float, pause_s: float, pause_if_grown_s: float
) -> None:
    assert pause_after(collection_s, has_grown=False) == pytest.approx(pause_s)
    assert pause_after(collection_s, has_grown=True) == pytest.approx(pause_if_grown_s)


@pytest.mark.parametrize(("growth", "max_s"), [(300, 6), (60, None)], ids=["much", "little"])
async def test_fast_growth_shortens_the_pause_after_a_long_collection(
    monkeypatch: pytest.MonkeyPatch, growth: int, max_s: float | None
) -> None:
    """Otherwise, garbage that appears quickly would make each collection longer than the one before."""
    size, collections = 0, []

    def collect_slowly(generation: int) -> None:
        collections.append(generation)
        time.sleep(0.4)

    monkeypatch.setattr("api.gc_tuning._resident_bytes", lambda: size)
    async with tuned_interpreter(growth_bytes=50):
        await asyncio.sleep(0)
        monkeypatch.setattr("api.gc_tuning.gc", SimpleNamespace(collect=collect_slowly))
        while not collections:
            await asyncio.sleep(0.05)
        size = growth
        with suppress(TimeoutError):
            async with asyncio.timeout(max_s or 4):
                while len(collections) == 1:
                    await asyncio.sleep(0.05)
        monkeypatch.undo()
    assert collections == ([1, 2] if max_s else [1]), "the pause after 0.4 s is 40 s, or 2 s"
