"""Claims on a disk: together they never use the reserve, and none outlives its writer."""

import asyncio
import threading
from array import array
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from store.free_space import Claim, FreeSpace, free_bytes
from store.ports import Chunk
from store.sqlite.disk_reserve import DiskReserve
from store.sqlite.store import open_store
from wire.errors import ReserveReached

MB = 1024 * 1024


def limited_space(folder: Path, size: int) -> FreeSpace:
    """Return a `FreeSpace` with about `size` bytes free, on any disk."""
    return FreeSpace(folder, reserve_bytes=free_bytes(folder) - size)


async def test_claims_count_before_a_byte_is_written(tmp_path: Path) -> None:
    free_space = await asyncio.to_thread(limited_space, tmp_path, 100 * MB)
    async with free_space.claimed(60 * MB):
        with pytest.raises(ReserveReached, match="nearly full"):
            async with free_space.claimed(60 * MB):
                pass
    async with free_space.claimed(60 * MB):
        pass


async def test_announced_bytes_must_fit_but_are_not_claimed(tmp_path: Path) -> None:
    free_space = await asyncio.to_thread(limited_space, tmp_path, 100 * MB)
    with pytest.raises(ReserveReached, match="120 MB more"):
        async with free_space.claimed(announced=120 * MB):
            pass
    async with free_space.claimed(announced=90 * MB), free_space.claimed(announced=90 * MB) as claim:
        await asyncio.to_thread(claim.extend, 60 * MB)
        with pytest.raises(ReserveReached):
            async with free_space.claimed(announced=60 * MB):
                pass


async def test_a_file_that_will_not_fit_is_refused_after_one_block(tmp_path: Path) -> None:
    free_space = await asyncio.to_thread(limited_space, tmp_path, 500 * MB)
    store = await open_store(tmp_path / "t.db", free_space=free_space)
    made = 0

    async def blocks() -> AsyncIterator[Sequence[Chunk]]:
        nonlocal made
        for start in range(0, 1_280, 64):
            made += 1
            yield [Chunk(at, "ferry", 0, 5, array("f", [1.0] * 3_000)) for at in range(start, start + 64)]

    with pytest.raises(ReserveReached, match="nearly full"):
        await store.vectors.add("ann", "vs", "file-1", blocks(), model="m", total=64_000)
    assert made == 1
    await store.vectors.add("ann", "vs", "file-1", blocks(), model="m", total=1_280)
    await store.close()


async def test_the_words_of_a_text_without_spaces_take_space(tmp_path: Path) -> None:
    free_space = await asyncio.to_thread(limited_space, tmp_path, 500 * MB)
    store = await open_store(tmp_path / "t.db", free_space=free_space)
    texts = ["".join(map(chr, range(start, start + 1_000))) for start in range(0x4E00, 0x9000, 500)] * 3
    chunks = [Chunk(at, text, 0, 1) for at, text in enumerate(texts)]
    sizes = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    before = (await store.engine.read(lambda conn: conn.execute(sizes).fetchone()))[0]
    await store.vectors.add("ann", "vs", "file-1", chunks, model=None)
    grown = (await store.engine.read(lambda conn: conn.execute(sizes).fetchone()))[0] - before
    total = 900 * MB * len(chunks) // grown
    with pytest.raises(ReserveReached, match="nearly full"):
        await store.vectors.add("ann", "vs", "file-2", in_blocks(chunks), model=None, total=total)
    await store.close()


async def in_blocks(chunks: Sequence[Chunk]) -> AsyncIterator[Sequence[Chunk]]:
    for start in range(0, len(chunks), 16):
        yield chunks[start : start + 16]


async def test_a_claim_whose_waiter_is_cancelled_is_released(tmp_path: Path) -> None:
    free_space = await asyncio.to_thread(limited_space, tmp_path, 100 * MB)

    async def hold() -> None:
        async with free_space.claimed(60 * MB):
            await asyncio.sleep(60)

    for turns in range(8):
        task = asyncio.create_task(hold())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.1)
    async with free_space.claimed(60 * MB):
        pass


def test_a_released_claim_claims_nothing(tmp_path: Path) -> None:
    free_space = limited_space(tmp_path, 100 * MB)
    claim = Claim(free_space)
    claim.release()
    for _ in range(5):
        claim.extend(60 * MB)
    Claim(free_space).extend(60 * MB)


def test_a_disk_reserve_releases_half_then_all_and_is_restored(tmp_path: Path) -> None:
    path = tmp_path / "x.reserve"
    reserve = DiskReserve(path, MB)
    reserve.refill()
    assert path.stat().st_size == MB
    assert path.stat().st_blocks * 512 >= MB
    assert [(given, path.stat().st_size) for given in reserve.release_in_portions()] == [(MB // 2, MB // 2), (MB, 0)]
    assert path.stat().st_size == MB
    for _ in reserve.release_in_portions():
        break
    assert path.stat().st_blocks * 512 >= MB


async def test_claims_wait_for_no_other_threads(tmp_path: Path) -> None:
    free_space = await asyncio.to_thread(limited_space, tmp_path, 100 * MB)
    loop, go = asyncio.get_running_loop(), threading.Event()
    busy = [loop.run_in_executor(None, go.wait, 10) for _ in range(64)]
    async with asyncio.timeout(5), free_space.claimed(MB):
        pass
    go.set()
    await asyncio.gather(*busy)
