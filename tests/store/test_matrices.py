"""Vectors in memory: exact, current, and within a limit."""

import asyncio
import gc
import random
import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.ports import Chunk, Delete, Insert, Query
from store.sqlite import matrices, vector_slices
from store.sqlite import search as lookup
from store.sqlite.matrices import Matrices
from store.sqlite.store import SqliteStore, open_store
from tests.store.rows import vector_store
from wire.filters import Comparison, Filter


def vectors(count: int, seed: int) -> list[list[float]]:
    numbers = random.Random(seed)
    return [[numbers.gauss(0, 1) for _ in range(8)] for _ in range(count)]


async def test_the_nearest_of_many_blocks_equal_a_plain_computation() -> None:
    given = vectors(3000, seed=1)
    store = await open_store()
    chunks = [Chunk(index, "x", 0, 1, vector) for index, vector in enumerate(given)]
    await store.vectors.add("ann", "vs", "file", chunks, model="m")
    asked = vectors(1, seed=2)[0]
    found = await store.vectors.search("ann", ["vs"], Query("", asked, "m", limit=20, weight=1.0))
    matrix = np.array(given)
    cosines = matrix @ np.array(asked) / np.linalg.norm(matrix, axis=1)
    best = list(np.argsort(-cosines)[:20])
    assert [hit.chunk.index for hit in found.hits][:10] == best[:10]
    assert len({hit.chunk.index for hit in found.hits} & set(best)) >= 19  # half precision can swap the last
    await store.close()


Limited = Callable[[int], list[Matrices]]


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Limited:
    """Return a function that limits the memory of later stores and returns their matrices."""

    def limit(max_bytes: int) -> list[Matrices]:
        kept: list[Matrices] = []

        def made() -> Matrices:
            kept.append(Matrices(max_bytes))
            return kept[-1]

        monkeypatch.setattr(lookup, "Matrices", made)
        return kept

    return limit


async def test_vectors_that_do_not_fit_in_memory_are_loaded_again(limited: Limited) -> None:
    kept = limited(12_000)
    store = await open_store()
    for number in range(4):
        chunks = [Chunk(index, "x", 0, 1, vector) for index, vector in enumerate(vectors(100, seed=number))]
        await store.vectors.add("ann", f"vs_{number}", f"file-{number}", chunks, model="m")
    for number in (0, 1, 2, 3, 0):
        query = Query("", vectors(100, seed=number)[5], "m", limit=1)
        (hit,) = (await store.vectors.search("ann", [f"vs_{number}"], query)).hits
        assert (hit.file_id, hit.chunk.index) == (f"file-{number}", 5)
    assert len(kept[0]._loaded) <= 2
    await store.close()


async def test_a_changed_store_is_searched_in_its_current_state() -> None:
    store = await open_store()
    query = Query("", [1.0, 0.0], "m", limit=1, weight=1.0)
    for number in range(3):
        chunks = [Chunk(0, "x", 0, 1, [float(number), 1.0])]
        await store.vectors.add("ann", "vs", f"file-{number}", chunks, model="m")
        assert [hit.file_id for hit in (await store.vectors.search("ann", ["vs"], query)).hits] == [f"file-{number}"]
    await store.vectors.remove("ann", "vs", "file-2")
    assert [hit.file_id for hit in (await store.vectors.search("ann", ["vs"], query)).hits] == ["file-1"]
    await store.close()


def held_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


FILTER = Comparison(type="eq", key="k", value="v")


@pytest.mark.parametrize(
    "wanted", [pytest.param(None, id="plain", marks=pytest.mark.soak), pytest.param(FILTER, id="filtered")]
)
@pytest.mark.usefixtures("traced")
async def test_a_searched_store_keeps_no_attributes(wanted: Filter | None) -> None:
    store = await open_store()
    for number in range(30):
        attributes = {"k": "v", "long": "x" * 100_000}
        await store.vectors.add(
            "ann", "vs", f"file-{number}", [Chunk(0, "word", 0, 4)], model=None, attributes=attributes
        )
    before = held_bytes()
    query = Query("word", None, None, limit=1, filters=wanted)
    (hit,) = (await store.vectors.search("ann", ["vs"], query)).hits
    assert hit.attributes["k"] == "v"
    del hit
    assert held_bytes() - before < 500_000
    await store.close()


@pytest.mark.parametrize(
    "way", ["deleted", *(pytest.param(way, marks=pytest.mark.soak) for way in ("expired", "emptied"))]
)
@pytest.mark.usefixtures("traced")
async def test_a_removed_store_is_not_kept(way: str) -> None:
    store = await open_store()
    row = vector_store()
    await store.commit([Insert(row)], durable=False)
    chunks = [Chunk(at, "word", 0, 4, vector * 64) for at, vector in enumerate(vectors(1_000, seed=1))]
    await store.vectors.add("ann", row.id, "file-1", chunks, model="m")
    query = Query("", [1.0] * 512, "m", limit=1)
    before = held_bytes()
    await store.vectors.search("ann", [row.id], query)
    assert held_bytes() - before > 1_900_000
    match way:
        case "deleted":
            await store.commit([Delete("vector_store", row.id, "ann")], durable=False)
        case "expired":
            await store.vectors.remove("ann", row.id)
        case _:
            await store.vectors.remove("ann", row.id, "file-1")
    await store.vectors.purge()
    assert held_bytes() - before < 500_000
    await store.close()


async def test_stores_without_vectors_count_towards_the_limit(limited: Limited) -> None:
    kept = limited(5_000)
    store = await open_store()
    for number in range(6):
        await store.vectors.add("ann", f"vs_{number}", "file", [Chunk(0, "word", 0, 4)], model=None)
        assert (await store.vectors.search("ann", [f"vs_{number}"], Query("word", None, None, limit=1))).hits
    assert len(kept[0]._loaded) <= 3
    await store.close()


@pytest.mark.soak
@pytest.mark.usefixtures("traced")
async def test_long_words_of_queries_are_not_cached() -> None:
    store = await open_store()
    await store.vectors.add("ann", "vs", "file", [Chunk(0, "word", 0, 4)], model=None)
    before = held_bytes()
    for number in range(100):
        text = " ".join(f"{number}x{at}" + "y" * 3_000 for at in range(10))
        await store.vectors.search("ann", ["vs"], Query(text, None, None, limit=1))
    assert held_bytes() - before < 500_000
    await store.close()


# --- stores that do not fit into memory -------------------------------------------------------------------------------


async def add(store: SqliteStore, file_id: str, given: list[list[float]], **where: Any) -> None:
    chunks = [Chunk(at, f"word {at % 7}", 0, 6, vector) for at, vector in enumerate(given)]
    attributes = {"even": int(file_id[-1]) % 2 == 0}
    owner, vector_store_id, model = where.get("owner", "ann"), where.get("of", "vs"), where.get("model", "m")
    await store.vectors.add(owner, vector_store_id, file_id, chunks, model=model, attributes=attributes)


async def ask(store: SqliteStore, query: list[float], *, of: str = "vs", owner: str = "ann", **how: Any) -> Any:
    asked = Query("", query, "m", **{"limit": 50, "weight": 1.0, **how})
    found = await store.vectors.search(owner, [of], asked)
    return [(hit.file_id, hit.chunk.index, hit.score) for hit in found.hits]


EVEN = Comparison(type="eq", key="even", value=True)


@pytest.mark.parametrize("wanted", [None, EVEN], ids=["plain", "filtered"])
@pytest.mark.parametrize(
    ("counts", "dimensions"),
    [([3000], 8), ([1, 1023, 1, 1024, 700, 5], 8), ([40, 900], 3072), ([3], 16_384), ([2], 1)],
    ids=["one file", "many files", "long vectors", "longest vectors", "single numbers"],
)
async def test_disk_and_memory_comparison_give_the_same_results(
    tmp_path: Path, limited: Limited, counts: list[int], dimensions: int, wanted: Filter | None
) -> None:
    numbers = np.random.default_rng(1)
    query = numbers.standard_normal(dimensions).tolist()
    results = []
    for maximum in (1 << 30, 10_000):
        kept = limited(maximum)
        store = await open_store(tmp_path / "t.db")
        if maximum > 10_000:
            for number, count in enumerate(counts):
                await add(store, f"file-{number}", numbers.standard_normal((count, dimensions)).tolist())
        results.append([await ask(store, query, filters=wanted) for _ in range(2)])
        in_memory = 4 * sum(counts) * dimensions
        assert (kept[0].size > in_memory) == (maximum > 10_000 or in_memory < 5_000)
        await store.close()
    assert results[0] == results[1]
    assert results[0][0]


@pytest.mark.usefixtures("traced")
async def test_a_store_that_is_too_large_is_searched_in_little_memory(limited: Limited) -> None:
    kept = limited(8_000_000)
    store = await open_store()
    for number in range(3):
        await add(store, f"file-{number}", [[float(number), *[1.0] * 2_999]] * 400)
    await ask(store, [1.0] * 3_000)
    before = held_bytes()
    tracemalloc.reset_peak()
    assert (await ask(store, [50.0] + [1.0] * 2_999, limit=1))[0][0] == "file-2"
    assert tracemalloc.get_traced_memory()[1] - before < 13_000_000  # blocks of 4 MB; the complete store has 14 MB
    assert kept[0].size < 10_000
    await store.close()


async def test_a_grown_store_is_copied_reloaded_or_compared_on_disk(limited: Limited) -> None:
    kept = limited(48_000)  # a file has 8 KB in memory: three copies of two files fit, then only one, then none
    store = await open_store()
    sizes = []
    for number in range(7):
        given = vectors(250, seed=number)
        await add(store, f"file-{number}", given)
        for at in (0, number):
            (found, *_) = await ask(store, vectors(250, seed=at)[7], limit=1)
            assert found[:2] == (f"file-{at}", 7)
        sizes.append(kept[0].size)
        assert kept[0].size <= 48_000
    assert sizes[4] > 40_000
    assert sizes[5] < 10_000
    await store.vectors.remove("ann", "vs")
    await store.vectors.purge()
    assert kept[0].size == 0
    await store.close()


@pytest.mark.parametrize("light_first", [True, False])
async def test_an_owner_gives_memory_only_to_owners_who_hold_less(limited: Limited, light_first: bool) -> None:
    kept = limited(80_000)
    store = await open_store()
    for number in range(4):
        await add(store, "file-1", vectors(1_000, seed=number), of=f"vs_{number}")  # 32 KB each
    await add(store, "file-1", vectors(500, seed=9), owner="bob")

    async def bobs() -> None:
        await ask(store, [1.0] * 8, owner="bob")
        assert kept[0]._held["bob"] > 16_000

    if light_first:
        await bobs()
    for _ in range(2):
        for number in range(4):
            assert (await ask(store, vectors(1_000, seed=number)[3], of=f"vs_{number}"))[0][:2] == ("file-1", 3)
            assert not light_first or kept[0]._held["bob"] > 16_000
            assert kept[0].size <= 80_000
    await bobs()
    await store.close()


async def test_a_large_store_does_not_evict_another_owner_s_smaller_one(limited: Limited) -> None:
    kept = limited(80_000)
    store = await open_store()
    await add(store, "file-1", vectors(1_000, seed=1), owner="bob")
    await add(store, "file-1", vectors(2_000, seed=2))
    await ask(store, [1.0] * 8, owner="bob")
    for _ in range(3):
        assert (await ask(store, vectors(2_000, seed=2)[3]))[0][:2] == ("file-1", 3)
        assert kept[0]._held["bob"] > 32_000
    await store.close()


async def test_an_unused_store_is_evicted_first(limited: Limited, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = limited(80_000)
    store = await open_store()
    await add(store, "file-1", vectors(1_000, seed=1), owner="bob")
    await add(store, "file-1", vectors(2_000, seed=2))
    await ask(store, [1.0] * 8, owner="bob")
    monkeypatch.setattr(matrices, "_IDLE_S", 0.0)
    await ask(store, [1.0] * 8)
    assert (kept[0]._held["bob"], kept[0]._held["ann"] > 64_000) == (0, True)
    await store.close()


async def test_concurrent_searches_stay_within_the_limit(limited: Limited) -> None:
    kept = limited(150_000)
    store = await open_store()
    owners = [f"owner-{number}" for number in range(4)]
    for number, owner in enumerate(owners):
        await add(store, "file-1", vectors(2_000, seed=number), owner=owner)  # 64 KB each
    highest = 0

    async def search(number: int) -> None:
        nonlocal highest
        for _ in range(10):
            found = await ask(store, vectors(2_000, seed=number)[3], owner=owners[number])
            assert found[0][:2] == ("file-1", 3)
            highest = max(highest, kept[0].size)

    await asyncio.gather(*(search(number) for number in (0, 1, 2, 3, 0, 1, 2, 3)))
    assert 64_000 < highest <= 150_000 + 4 * 3_000  # lists of files that are used but not kept are added
    await store.close()


@pytest.mark.parametrize("maximum", [1 << 30, 10_000], ids=["memory", "disk"])
async def test_vectors_in_one_row_of_earlier_versions_are_compared(
    tmp_path: Path, limited: Limited, monkeypatch: pytest.MonkeyPatch, maximum: int
) -> None:
    limited(maximum)
    monkeypatch.setattr(vector_slices, "_BLOCK_BYTES", 1_000)
    path = tmp_path / "t.db"
    store = await open_store(path)
    given = vectors(500, seed=1)
    await add(store, "file-1", given)
    expected = [found[:2] for found in await ask(store, given[7])]
    await store.close()

    def join_slices() -> None:
        with closing(sqlite3.connect(path)) as conn, conn:
            (whole,) = conn.execute(
                "SELECT group_concat(hex(vectors), '') FROM (SELECT vectors FROM index_vector_slices ORDER BY seq)"
            ).fetchone()
            conn.execute("DELETE FROM index_vector_slices")
            conn.execute("INSERT INTO index_vectors SELECT seq, owner, ? FROM index_files", (bytes.fromhex(whole),))

    await asyncio.to_thread(join_slices)
    store = await open_store(path)
    assert [found[:2] for found in await ask(store, given[7])] == expected
    await add(store, "file-2", vectors(20, seed=2))
    assert (await ask(store, given[7]))[0][:2] == ("file-1", 7)
    assert (await ask(store, vectors(20, seed=2)[5]))[0][:2] == ("file-2", 5)
    await store.vectors.remove("ann", "vs")
    await store.vectors.purge()
    await store.close()

    def rows() -> int:
        with closing(sqlite3.connect(path)) as conn:
            return len(conn.execute("SELECT file FROM index_vectors").fetchall())

    assert await asyncio.to_thread(rows) == 0


async def test_vectors_of_two_lengths_of_one_model_are_searched_separately(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    await add(store, "file-1", [[1.0, 0.0]])
    await add(store, "file-2", [[1.0, 0.0, 0.0]], model="former")
    await store.close()

    def rename() -> None:
        with closing(sqlite3.connect(tmp_path / "t.db")) as conn, conn:
            conn.execute("UPDATE index_files SET model = 'm'")

    await asyncio.to_thread(rename)
    store = await open_store(tmp_path / "t.db")
    for query, found, other in (([1.0, 0.0], "file-1", "file-2"), ([1.0, 0.0, 0.0], "file-2", "file-1")):
        got = await store.vectors.search("ann", ["vs"], Query("", query, "m", weight=1.0))
        assert ([hit.file_id for hit in got.hits], got.by_words_only) == ([found], {other})
    await store.close()


def test_every_stored_number_is_widened_exactly() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)].reshape(-1, 8)
    assert np.array_equal(vector_slices._widen(finite, np.empty(finite.shape, np.int32)), finite.astype(np.float32))
