"""Every rule of `store.ports.Vectors`, for every backend: added files are found by their owner and by no other."""

import asyncio
import math
import tracemalloc
from array import array
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from store.ports import Chunk, Found, Query, Vectors
from store.sqlite.store import SqliteStore
from store.sqlite.vectors import SqliteVectors
from tests.store.conftest import Opener
from wire.errors import EmbeddingFailed, MissingRow, StoreError
from wire.filters import Filter
from wire.validation import Request, parse

TEXTS = (
    "The ferry to Naxos leaves Piraeus at seven in the morning.",
    "Bob's favourite number is 43, and it always was.",
    "Zoë's café serves crème brûlée until midnight.",
)


class Filtered(Request):
    filters: Filter


@pytest.fixture
async def vectors(opener: Opener) -> AsyncIterator[Vectors]:
    """The index of an empty store; a second backend adds itself to `opener`."""
    store = await opener()
    assert isinstance(store, SqliteStore)
    try:
        yield store.vectors
    finally:
        await store.close()


def pieces(*texts: str, vectors: Sequence[Sequence[float]] | None = None) -> list[Chunk]:
    chunks, at = [], 0
    for index, text in enumerate(texts):
        chunks.append(Chunk(index, text, at, at + len(text), None if vectors is None else vectors[index]))
        at += len(text)
    return chunks


async def put(to: Vectors, file_id: str, *texts: str, store: str = "vs_1", owner: str = "ann", **more: Any) -> None:
    vectors = more.pop("vectors", None)
    model = "m" if vectors else None
    await to.add(owner, store, file_id, pieces(*texts, vectors=vectors), model=model, **more)


async def watched(count: int, under_way: asyncio.Event) -> AsyncIterator[Sequence[Chunk]]:
    """Yield chunks in blocks; set `under_way` when some are written."""
    chunks = pieces(*(f"ferry {number}" for number in range(count)))
    for start in range(0, count, 40):
        if start == 120:
            under_way.set()
        yield chunks[start : start + 40]


async def look(
    at: Vectors, text: str = "", *, stores: Sequence[str] = ("vs_1",), owner: str = "ann", **how: Any
) -> Found:
    if "vector" in how:
        how.setdefault("model", "m")
    return await at.search(owner, stores, Query(text, **how))


def files(found: Found) -> list[str]:
    return [hit.file_id for hit in found.hits]


# --- what is added is found -------------------------------------------------------------------------------------------


async def test_a_chunk_is_found_by_a_word_complete_with_its_offsets(vectors: Vectors) -> None:
    await put(vectors, "file-1", *TEXTS, attributes={"year": 2024})
    (hit,) = (await look(vectors, "When does the FERRY leave?", limit=1)).hits
    assert (hit.vector_store_id, hit.file_id, hit.attributes) == ("vs_1", "file-1", {"year": 2024})
    assert hit.chunk == Chunk(0, TEXTS[0], 0, len(TEXTS[0]))


async def test_words_are_found_whatever_their_accents_case_and_spelling(vectors: Vectors) -> None:
    asked = [
        ("creme brulee", TEXTS[2]),
        ("CAFÉ", TEXTS[2]),
        ("numbers", TEXTS[1]),  # a stem
        ("東京タワー", "昨日は東京タワーに登りました。"),
        ("猫", "白い猫です"),
        ("กรุงเทพ", "เมืองกรุงเทพมหานคร"),
        ("हिन्दी", "यह हिन्दी में है"),
        ("max_num_results", "set max_num_results to 5"),
        ("naïve", "naive"),
    ]
    await put(vectors, "file-1", "Something else entirely.", *dict.fromkeys(text for _, text in asked))
    assert [[hit.chunk.text for hit in (await look(vectors, words)).hits] for words, _ in asked] == [
        [text] for _, text in asked
    ]


async def test_no_query_is_syntax(vectors: Vectors) -> None:
    await put(vectors, "file-1", *TEXTS)
    words = (
        "",
        " ",
        '"',
        "*",
        "-",
        "(",
        "\0",
        "^ferry",
        "a AND",
        "NEAR(a b)",
        "text : x",
        "{a b} : c",
        "'; DROP TABLE runs",
    )
    for asked in words:
        assert {hit.chunk.text for hit in (await look(vectors, asked)).hits} <= set(TEXTS)
        assert files(await look(vectors, f"{asked} ferry", limit=1)) == ["file-1"]


async def test_a_chunk_is_found_by_its_meaning_alone(vectors: Vectors) -> None:
    await put(vectors, "file-1", "one", "two", "three", vectors=[[1, 0, 0], [0, 2, 0], [0, 0.1, 0.1]])
    found = await look(vectors, "nothing of it", vector=[0, 1, 0], limit=2)
    assert [hit.chunk.index for hit in found.hits] == [1, 2]
    assert found.by_words_only == frozenset()


async def test_matches_of_words_and_meaning_come_first_by_score(vectors: Vectors) -> None:
    texts = ["apple tart", "pear tart", "apple pie", "plum jam"]
    await put(vectors, "file-1", *texts, vectors=[[0, 1, 0], [0, 0, 1], [1, 0.1, 0], [0.9, 0, 0.1]])
    hits = (await look(vectors, "apple", vector=[1, 0, 0])).hits
    assert hits[0].chunk.text == "apple pie"
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


async def test_weight_chooses_between_words_and_meaning(vectors: Vectors) -> None:
    await put(vectors, "file-1", "apple", "pear", vectors=[[0, 1], [1, 0]])
    by_words, by_meaning = [await look(vectors, "apple", vector=[1, 0], weight=weight) for weight in (0.0, 1.0)]
    assert [found.hits[0].chunk.text for found in (by_words, by_meaning)] == ["apple", "pear"]


async def test_limit_and_threshold_shorten_the_list(vectors: Vectors) -> None:
    await put(vectors, "file-1", *(f"word {number}" for number in range(30)))
    whole = (await look(vectors, "word", limit=30)).hits
    assert len(whole) == 30
    assert (await look(vectors, "word", limit=7)).hits == whole[:7]
    threshold = whole[4].score
    assert (await look(vectors, "word", threshold=threshold)).hits == whole[:5]


async def test_a_file_of_many_slices_is_found_to_its_last_chunk(vectors: Vectors) -> None:
    texts = [f"common text number{number}" for number in range(100)]
    await put(vectors, "file-1", *texts, vectors=[[1.0, number] for number in range(100)])
    assert [hit.chunk.index for hit in (await look(vectors, "number99")).hits] == [99]
    assert [chunk.text for chunk in await vectors.chunks("ann", "vs_1", "file-1")] == texts


# --- owners and stores ------------------------------------------------------------------------------------------------


async def test_a_search_covers_exactly_the_named_stores_of_its_owner(vectors: Vectors) -> None:
    for store, owner in (("vs_1", "ann"), ("vs_2", "ann"), ("vs_3", "ann"), ("vs_1", "bob")):
        await put(vectors, f"file-{store}-{owner}", *TEXTS, store=store, owner=owner, vectors=[[1, 0], [0, 1], [1, 1]])
    for how in ({}, {"vector": [1.0, 0.0]}):
        found = await look(vectors, "ferry", stores=["vs_1", "vs_2", "vs_unknown"], limit=50, **how)
        assert set(files(found)) == {"file-vs_1-ann", "file-vs_2-ann"}
        assert set(files(await look(vectors, "ferry", owner="bob", **how))) == {"file-vs_1-bob"}
        assert files(await look(vectors, "ferry", owner="eve", **how)) == []
    assert await vectors.chunks("eve", "vs_1", "file-vs_1-ann") == []
    assert await vectors.models("eve", "vs_1") == frozenset()


async def test_a_file_in_two_stores_is_found_once(vectors: Vectors) -> None:
    for store in ("vs_1", "vs_2"):
        await put(vectors, "file-1", *TEXTS, store=store)
    assert files(await look(vectors, "ferry", stores=["vs_1", "vs_2"])) == ["file-1"]


async def test_no_owner_can_remove_or_change_another_s_files(vectors: Vectors) -> None:
    await put(vectors, "file-1", *TEXTS)
    await vectors.remove("bob", "vs_1", "file-1")
    await vectors.remove("bob", "vs_1")
    with pytest.raises(MissingRow):
        await vectors.set_attributes("bob", "vs_1", "file-1", {"x": 1})
    assert files(await look(vectors, "ferry")) == ["file-1"]


# --- filters ----------------------------------------------------------------------------------------------------------

CARS: dict[str, dict[str, str | float | bool]] = {
    "file-a": {"make": "audi", "year": 2020, "sold": True},
    "file-b": {"make": "bmw", "year": 2022.5},
    "file-c": {"make": "citroen", "year": "2022", "sold": False},
    "file-d": {},
}


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({"type": "eq", "key": "make", "value": "bmw"}, "b"),
    ({"type": "ne", "key": "make", "value": "bmw"}, "acd"),
    ({"type": "eq", "key": "year", "value": 2020}, "a"),
    ({"type": "eq", "key": "year", "value": "2022"}, "c"),
    ({"type": "gt", "key": "year", "value": 2020}, "b"),
    ({"type": "gte", "key": "year", "value": 2020}, "ab"),
    ({"type": "lt", "key": "year", "value": 2022.5}, "a"),
    ({"type": "lte", "key": "year", "value": 2022.5}, "ab"),
    ({"type": "lt", "key": "make", "value": "b"}, "a"),
    ({"type": "eq", "key": "sold", "value": True}, "a"),
    ({"type": "eq", "key": "sold", "value": 1}, ""),
    ({"type": "in", "key": "make", "value": ["audi", "bmw", 3]}, "ab"),
    ({"type": "nin", "key": "make", "value": ["audi", "bmw"]}, "cd"),
    ({"type": "in", "key": "make", "value": []}, ""),
    ({"type": "and", "filters": []}, "abcd"),
    ({"type": "or", "filters": []}, ""),
    (
        {
            "type": "or",
            "filters": [
                {"type": "eq", "key": "make", "value": "citroen"},
                {
                    "type": "and",
                    "filters": [
                        {"type": "gte", "key": "year", "value": 2000},
                        {"type": "ne", "key": "sold", "value": True},
                    ],
                },
            ],
        },
        "bc",
    ),
]


async def test_a_filter_finds_what_matches_it(vectors: Vectors) -> None:
    for file_id, attributes in CARS.items():
        await put(vectors, file_id, "one car", vectors=[[1, 0]], attributes=attributes)
    for filters, passing in FILTERS:
        wanted = parse(Filtered, {"filters": filters}).filters
        for how in ({}, {"vector": [1.0, 0.5]}):
            found = await look(vectors, "car", filters=wanted, **how)
            assert "".join(sorted(files(found))).replace("file-", "") == passing, filters


async def test_a_filter_does_not_shorten_the_list(vectors: Vectors) -> None:
    """Better hits that do not match must not displace those that do."""
    for number in range(120):
        await put(vectors, f"file-{number}", "car car car", vectors=[[1, 0]], attributes={"good": False})
    await put(vectors, "file-x", "a car among many other words", vectors=[[0, 1]], attributes={"good": True})
    good = parse(Filtered, {"filters": {"type": "eq", "key": "good", "value": True}}).filters
    for how in ({}, {"vector": [1.0, 0.0]}, {"vector": [1.0, 0.0], "weight": 1.0}):
        assert files(await look(vectors, "car", filters=good, limit=3, **how)) == ["file-x"]


async def test_new_attributes_apply_immediately(vectors: Vectors) -> None:
    await put(vectors, "file-1", *TEXTS, attributes={"a": 1})
    await vectors.set_attributes("ann", "vs_1", "file-1", {"b": "x"})
    (hit,) = (await look(vectors, "ferry")).hits
    assert hit.attributes == {"b": "x"}
    with pytest.raises(MissingRow, match="file-2"):
        await vectors.set_attributes("ann", "vs_1", "file-2", {})


# --- removal and replacement ------------------------------------------------------------------------------------------


async def test_a_file_added_again_replaces_the_old_one(vectors: Vectors) -> None:
    await put(vectors, "file-1", *TEXTS, vectors=[[1, 0], [0, 1], [1, 1]], attributes={"a": 1})
    await put(vectors, "file-1", "Nothing about ships.", vectors=[[0, 1]])
    for how in ({}, {"vector": [1.0, 0.0]}):
        assert [hit.chunk.text for hit in (await look(vectors, "ferry ships", **how)).hits] == ["Nothing about ships."]
    await vectors.purge()
    assert [hit.chunk.text for hit in (await look(vectors, "ferry ships")).hits] == ["Nothing about ships."]


@pytest.mark.parametrize("purged", [False, True], ids=["unpurged", "purged"])
async def test_a_removed_file_is_not_found(vectors: Vectors, purged: bool) -> None:
    for file_id in ("file-1", "file-2"):
        await put(vectors, file_id, *TEXTS, vectors=[[1, 0], [0, 1], [1, 1]])
    await put(vectors, "file-1", *TEXTS, store="vs_2")
    await look(vectors, "ferry", vector=[1, 0])  # any cache in memory must be updated
    await vectors.remove("ann", "vs_1", "file-1")
    if purged:
        await vectors.purge()
    for how in ({}, {"vector": [1.0, 0.0]}):
        assert set(files(await look(vectors, "ferry", limit=50, **how))) == {"file-2"}
    await vectors.remove("ann", "vs_1")
    if purged:
        await vectors.purge()
    assert files(await look(vectors, "ferry", vector=[1, 0])) == []
    assert files(await look(vectors, "ferry", stores=["vs_2"])) == ["file-1"]
    assert await vectors.chunks("ann", "vs_1", "file-2") == []
    await vectors.remove("ann", "vs_1")
    await put(vectors, "file-1", *TEXTS)
    assert files(await look(vectors, "ferry")) == ["file-1"]


async def test_hidden_hits_do_not_displace_visible_ones(vectors: Vectors) -> None:
    for number in range(120):
        await put(vectors, f"file-{number}", "ferry ferry ferry")
        await vectors.remove("ann", "vs_1", f"file-{number}")
    await put(vectors, "file-x", "a ferry among many other words")
    assert files(await look(vectors, "ferry", limit=1)) == ["file-x"]


@pytest.mark.parametrize("whole_store", [False, True], ids=["file", "store"])
async def test_a_file_removed_while_it_is_added_stays_removed(vectors: Vectors, whole_store: bool) -> None:
    under_way = asyncio.Event()
    adding = asyncio.ensure_future(vectors.add("ann", "vs_1", "file-1", watched(300, under_way), model=None))
    await under_way.wait()
    await vectors.remove("ann", "vs_1", None if whole_store else "file-1")
    with pytest.raises(MissingRow, match="file-1"):
        await adding
    await vectors.purge()
    assert files(await look(vectors, "ferry")) == []
    assert await vectors.chunks("ann", "vs_1", "file-1") == []


async def test_a_cancelled_addition_keeps_the_old_file(vectors: Vectors) -> None:
    await put(vectors, "file-1", "the old ferry")
    under_way = asyncio.Event()
    adding = asyncio.ensure_future(vectors.add("ann", "vs_1", "file-1", watched(300, under_way), model=None))
    await under_way.wait()
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    await vectors.purge()
    assert [hit.chunk.text for hit in (await look(vectors, "ferry")).hits] == ["the old ferry"]


async def test_tidying_does_not_affect_unfinished_additions(vectors: Vectors) -> None:
    adding = asyncio.ensure_future(put(vectors, "file-1", *(f"ferry {number}" for number in range(300))))
    while not adding.done():
        # Nothing or all of it; all can be visible a moment before the call that adds it returns.
        assert len((await look(vectors, "ferry", limit=300)).hits) in (0, 300)
        await vectors.purge()
        await asyncio.sleep(0)
    await adding
    assert len((await look(vectors, "ferry", limit=300)).hits) == 300


async def in_blocks(chunks: Sequence[Chunk], size: int = 4) -> AsyncIterator[Sequence[Chunk]]:
    for start in range(0, len(chunks), size):
        yield chunks[start : start + size]


async def index_rows(vectors: Vectors) -> int:
    """Return how many rows the index has after a purge."""
    assert isinstance(vectors, SqliteVectors)
    await vectors.purge()
    tables = ("index_files", "index_chunks", "index_vectors", "index_vector_slices", "index_words_docsize")
    sql = " UNION ALL ".join(f"SELECT count(*) FROM {table}" for table in tables)
    counts = await vectors._engine.read(lambda conn: conn.execute(sql).fetchall())
    return sum(count for (count,) in counts)


async def test_a_file_that_is_added_in_blocks_is_found_completely(vectors: Vectors) -> None:
    texts = [f"ferry number{number}" for number in range(50)]
    chunks = pieces(*texts, vectors=[[math.cos(number / 10), math.sin(number / 10)] for number in range(50)])

    async def unfound() -> AsyncIterator[Sequence[Chunk]]:
        async for block in in_blocks(chunks, 7):
            assert (await look(vectors, "ferry", vector=[1.0, 0.0])).hits == []
            yield block

    await vectors.add("ann", "vs_1", "file-1", unfound(), model="m")
    assert [chunk.text for chunk in await vectors.chunks("ann", "vs_1", "file-1")] == texts
    for number in (0, 6, 7, 49):
        nearest = await look(vectors, vector=[math.cos(number / 10), math.sin(number / 10)], limit=1, weight=1.0)
        assert [hit.chunk.index for hit in nearest.hits] == [number]


@pytest.mark.parametrize("end", ["cancel", "error", "missing vector", "other length", "gap", "removal"])
async def test_blocks_that_end_early_leave_nothing(vectors: Vectors, end: str) -> None:
    await put(vectors, "file-1", "the old ferry", vectors=[[0, 1]])
    rows = await index_rows(vectors)
    chunks = pieces(*(f"ferry {number}" for number in range(40)), vectors=[[1, 0]] * 40)
    half_way = asyncio.Event()

    async def ended() -> AsyncIterator[Sequence[Chunk]]:
        async for block in in_blocks(chunks[:20]):
            yield block
        half_way.set()
        match end:
            case "error":
                raise EmbeddingFailed("The model is down.")
            case "removal":
                await vectors.remove("ann", "vs_1", "file-2")
            case "cancel":
                await asyncio.sleep(60)
        changes: dict[str, Any] = {"missing vector": {"vector": None}, "other length": {"vector": [1, 0, 0]}}
        more = {"gap": {"index": 22}, **changes}.get(end, {})
        yield [replace(chunks[20], **more)]

    adding = asyncio.ensure_future(vectors.add("ann", "vs_1", "file-2", ended(), model="m"))
    await half_way.wait()
    if end == "cancel":
        adding.cancel()
    with pytest.raises((asyncio.CancelledError, EmbeddingFailed, StoreError)):
        await adding
    assert await index_rows(vectors) == rows
    assert files(await look(vectors, "ferry", vector=[1, 0])) == ["file-1"]


@pytest.mark.usefixtures("traced")
async def test_adding_uses_memory_for_one_block_of_vectors(vectors: Vectors) -> None:
    async def made() -> AsyncIterator[Sequence[Chunk]]:
        for start in range(0, 1024, 32):
            yield [Chunk(at, f"ferry {at}", 0, 8, array("f", [1.0] * 4_000)) for at in range(start, start + 32)]

    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    await vectors.add("ann", "vs_1", "file-1", made(), model="m", total=1024)
    assert tracemalloc.get_traced_memory()[1] - before < 4_000_000  # all vectors have 16 MB
    assert len(await vectors.chunks("ann", "vs_1", "file-1")) == 1024


async def test_attributes_set_while_a_file_is_added_apply(vectors: Vectors) -> None:
    async def changed() -> AsyncIterator[Sequence[Chunk]]:
        await vectors.set_attributes("ann", "vs_1", "file-1", {"year": 2025})
        yield pieces("ferry")

    await vectors.add("ann", "vs_1", "file-1", changed(), model=None, attributes={"year": 2024})
    (hit,) = (await look(vectors, "ferry")).hits
    assert hit.attributes == {"year": 2025}


# --- models -----------------------------------------------------------------------------------------------------------


async def test_another_model_s_vector_searches_words_and_reports_it(vectors: Vectors) -> None:
    await put(vectors, "file-1", "apple", vectors=[[0, 1]])
    await put(vectors, "file-2", "apple")
    found = await look(vectors, "apple", vector=[0, 1, 0], model="other")
    assert (sorted(files(found)), found.by_words_only) == (["file-1", "file-2"], {"file-1", "file-2"})
    found = await look(vectors, "apple", vector=[0, 1])
    assert (files(found)[0], found.by_words_only) == ("file-1", {"file-2"})
    assert await vectors.models("ann", "vs_1") == {"m", None}


async def test_vectors_that_do_not_fit_are_refused(vectors: Vectors) -> None:
    await put(vectors, "file-1", "apple", vectors=[[0, 1]])
    for wrong in ([[1, 2, 3]], [[1, 2], [1]], [[1, 2], None]):
        with pytest.raises(StoreError, match="vectors"):
            await put(vectors, "file-2", *("pear", "plum")[: len(wrong)], vectors=wrong)
    with pytest.raises(StoreError, match="numbered"):
        await vectors.add("ann", "vs_1", "file-2", [Chunk(1, "pear", 0, 4)], model=None)
    assert files(await look(vectors, "pear")) == []


async def test_of_two_lengths_added_concurrently_one_is_refused(vectors: Vectors) -> None:
    async def slow() -> AsyncIterator[Sequence[Chunk]]:
        yield pieces(*["apple"] * 40, vectors=[[1, 0]] * 40)  # some of them are written before the next block
        await put(vectors, "file-2", "pear", store="vs_2", vectors=[[1, 0, 0]])

    with pytest.raises(StoreError, match="have 2 numbers, but those that are stored have 3"):
        await vectors.add("ann", "vs_1", "file-1", slow(), model="m")
    assert files(await look(vectors, stores=["vs_1", "vs_2"], vector=[1, 0, 0])) == ["file-2"]


async def test_an_empty_file_exists_and_is_never_found(vectors: Vectors) -> None:
    await put(vectors, "file-1")
    assert files(await look(vectors, "apple", vector=[1, 0])) == []
    assert await vectors.chunks("ann", "vs_1", "file-1") == []


async def test_a_file_just_added_needs_no_refresh(vectors: Vectors) -> None:
    await put(vectors, "file-1", *TEXTS)
    assert [left async for left in vectors.refresh()] == [0]
