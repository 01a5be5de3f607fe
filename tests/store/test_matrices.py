"""Vectors in memory: exact, up to date, within a limit."""

import gc
import random
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from store import open_store
from store.ports import Chunk, Delete, Insert, Query
from store.sqlite import search as lookup
from store.sqlite.matrices import Matrices
from tests.store.rows import vector_store
from wire.filters import Comparison, Filter


def vectors(count: int, seed: int) -> list[list[float]]:
    numbers = random.Random(seed)
    return [[numbers.gauss(0, 1) for _ in range(8)] for _ in range(count)]


async def test_the_nearest_of_many_blocks_are_those_of_a_plain_computation() -> None:
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
    assert len({hit.chunk.index for hit in found.hits} & set(best)) >= 19  # half precision may swap the last
    await store.close()


async def test_what_does_not_fit_in_memory_is_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Matrices] = []

    def small() -> Matrices:
        kept.append(Matrices(max_bytes=5000))
        return kept[0]

    monkeypatch.setattr(lookup, "Matrices", small)
    store = await open_store()
    for number in range(4):
        chunks = [Chunk(index, "x", 0, 1, vector) for index, vector in enumerate(vectors(100, seed=number))]
        await store.vectors.add("ann", f"vs_{number}", f"file-{number}", chunks, model="m")
    for number in (0, 1, 2, 3, 0):
        query = Query("", vectors(100, seed=number)[5], "m", limit=1)
        (hit,) = (await store.vectors.search("ann", [f"vs_{number}"], query)).hits
        assert (hit.file_id, hit.chunk.index) == (f"file-{number}", 5)
    assert len(kept[0]._shelves) <= 2
    await store.close()


async def test_a_changed_store_is_searched_as_it_is_now() -> None:
    store = await open_store()
    query = Query("", [1.0, 0.0], "m", limit=1, weight=1.0)
    for number in range(3):
        chunks = [Chunk(0, "x", 0, 1, [float(number), 1.0])]
        await store.vectors.add("ann", "vs", f"file-{number}", chunks, model="m")
        assert [hit.file_id for hit in (await store.vectors.search("ann", ["vs"], query)).hits] == [f"file-{number}"]
    await store.vectors.remove("ann", "vs", "file-2")
    assert [hit.file_id for hit in (await store.vectors.search("ann", ["vs"], query)).hits] == ["file-1"]
    await store.close()


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def held_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


FILTER = Comparison(type="eq", key="k", value="v")


@pytest.mark.parametrize("wanted", [None, FILTER], ids=["plain", "filtered"])
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


@pytest.mark.parametrize("way", ["deleted", "expired", "emptied"])
@pytest.mark.usefixtures("traced")
async def test_a_store_that_is_gone_is_not_kept(way: str) -> None:
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
    await store.vectors.tidy()
    assert held_bytes() - before < 500_000
    await store.close()


async def test_stores_without_vectors_count_towards_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Matrices] = []

    def small() -> Matrices:
        kept.append(Matrices(max_bytes=5000))
        return kept[0]

    monkeypatch.setattr(lookup, "Matrices", small)
    store = await open_store()
    for number in range(6):
        await store.vectors.add("ann", f"vs_{number}", "file", [Chunk(0, "word", 0, 4)], model=None)
        assert (await store.vectors.search("ann", [f"vs_{number}"], Query("word", None, None, limit=1))).hits
    assert len(kept[0]._shelves) <= 3
    await store.close()


@pytest.mark.usefixtures("traced")
async def test_long_words_of_queries_are_not_remembered() -> None:
    store = await open_store()
    await store.vectors.add("ann", "vs", "file", [Chunk(0, "word", 0, 4)], model=None)
    before = held_bytes()
    for number in range(100):
        text = " ".join(f"{number}x{at}" + "y" * 3_000 for at in range(10))
        await store.vectors.search("ann", ["vs"], Query(text, None, None, limit=1))
    assert held_bytes() - before < 500_000
    await store.close()
