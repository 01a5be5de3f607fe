"""A search for the model: limits, order, waiting, and error messages."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from chains.prompts import Prompts
from graphs.tools.file_search import FileSearch, Findings, SearchTool, query_of
from store.ports import Chunk, Insert, Row
from store.sqlite.store import SqliteStore, open_store
from wire.errors import EmbeddingFailed

OWNER = "ann"
TOOL = SearchTool("file_search")


@dataclass
class Embedder:
    """Returns vectors that a test chooses; with `fails`, none."""

    name: str = "m"
    dimensions: int | None = 2
    fails: bool = False
    share: float | None = None

    async def embed(self, texts: Sequence[str], **_: object) -> list[list[float]]:
        if self.fails:
            raise EmbeddingFailed("no model")
        return [[1.0, 0.0] for _ in texts]

    def weight(self, query: str, /) -> float | None:
        return self.share if "ferry" in query else None

    async def close(self) -> None:
        pass


@dataclass
class Harness:
    store: SqliteStore
    embedder: Embedder = field(default_factory=Embedder)
    whole: bool = True
    waited: list[float] = field(default_factory=list)

    async def add(self, name: str, *texts: str, store: str = "vs_1", status: str = "completed") -> None:
        """Add a file of these chunks to a store."""
        body = {"id": store, "status": status, "last_active_at": 1, "expires_after": None}
        if await self.store.get("vector_store", store, OWNER) is None:
            await self.store.commit([Insert(Row("vector_store", store, OWNER, body))], durable=False)
        file = {"id": f"file-{name}", "filename": f"{name}.txt", "purpose": "assistants"}
        await self.store.commit([Insert(Row("file", file["id"], OWNER, file))], durable=False)
        chunks = [Chunk(index, text, 0, len(text), [1.0, index]) for index, text in enumerate(texts)]
        await self.store.vectors.add(OWNER, store, file["id"], chunks, model="m")

    async def search(self, query: str = "ferry", *, stores: Sequence[str] = ("vs_1",), chars: int = 9000) -> Findings:
        searcher = FileSearch(
            self.store,
            self.store.vectors,
            self.embedder,
            wait_for_index=self.ready,
            prompts=Prompts(),
            clock=lambda: 1000.0,
        )
        arguments = json.dumps({"query": query})
        return await searcher.search(OWNER, stores, arguments, TOOL, number=3, chars=chars)

    async def ready(self, ids: Sequence[str], limit_s: float) -> bool:
        assert ids
        self.waited.append(limit_s)
        return self.whole


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    store = await open_store()
    try:
        yield Harness(store)
    finally:
        await store.close()


async def test_passages_have_markers_and_file_names(harness: Harness) -> None:
    await harness.add("isles", "The ferry leaves at seven.", "Tea is steeped.")
    found = await harness.search()
    assert found.sources == {
        "3:0": {"file_id": "file-isles", "text": "The ferry leaves at seven.", "asked": "ferry"},
        "3:1": {"file_id": "file-isles", "text": "Tea is steeped.", "asked": "ferry"},
    }
    assert '【3:0†source】 "isles.txt"\nThe ferry leaves at seven.' in found.output
    assert [result["content"][0]["text"] for result in found.results] == [
        "The ferry leaves at seven.",
        "Tea is steeped.",
    ]
    assert harness.waited == [60.0]


async def test_passages_stay_within_the_limit_and_the_best_is_always_shown(harness: Harness) -> None:
    await harness.add("isles", "ferry " * 100, "boat " * 100, "tea " * 100)
    assert [len(result["content"][0]["text"]) for result in (await harness.search(chars=1200)).results] == [600, 500]
    assert [len(result["content"][0]["text"]) for result in (await harness.search(chars=50)).results] == [50]


async def test_without_vectors_a_search_uses_words(harness: Harness) -> None:
    await harness.add("isles", "The ferry leaves at seven.", "Tea is steeped.")
    harness.embedder.fails = True
    assert len((await harness.search()).results) == 1


@pytest.mark.parametrize(("share", "first"), [(None, "ferry boat trip"), (0.1, "ferry"), (0.9, "ferry boat trip")])
async def test_the_embedder_decides_the_weight_of_similarity(harness: Harness, share: float | None, first: str) -> None:
    harness.embedder.share = share
    await harness.add("a", "ferry boat trip", "ferry")  # the first is nearest by meaning, the second by words
    results = (await harness.search()).results
    assert results[0]["content"][0]["text"] == first


async def test_the_model_gets_the_error_of_a_search(harness: Harness) -> None:
    await harness.add("isles", "The ferry leaves at seven.")
    await harness.add("old", "The ferry leaves at nine.", store="vs_old", status="expired")
    assert "`query` is missing" in (await harness.search("  ")).output
    for stores in ((), ("vs_gone",), ("vs_old",)):
        assert "no files to search" in (await harness.search(stores=stores)).output
    both = await harness.search(stores=("vs_1", "vs_old"))
    assert {source["file_id"] for source in both.sources.values()} == {"file-isles"}
    harness.whole = False
    assert "still being indexed" in (await harness.search()).output
    await harness.store.close()
    assert "cannot be searched right now" in (await harness.search()).output


async def test_a_deleted_file_is_not_shown(harness: Harness) -> None:
    await harness.add("isles", "The ferry leaves at seven.")
    chunks = [Chunk(0, "A ferry of a file that is gone.", 0, 31, [1.0, 0.0])]
    await harness.store.vectors.add(OWNER, "vs_1", "file-gone", chunks, model="m")
    assert {source["file_id"] for source in (await harness.search()).sources.values()} == {"file-isles"}


async def test_a_search_extends_the_store_s_expiry(harness: Harness) -> None:
    await harness.add("isles", "ferry")
    await harness.search()
    row = await harness.store.get("vector_store", "vs_1", OWNER)
    assert row is not None
    assert row.body["last_active_at"] == 1000


@pytest.mark.parametrize("arguments", ["", "{", "[]", "null", '{"q": 1}', '{"query": 7}', '{"query": null}'])
def test_arguments_without_a_query_are_an_error(arguments: str) -> None:
    assert query_of(arguments) == ""


def test_an_unpaired_surrogate_in_a_query_does_no_harm() -> None:
    assert query_of(r'{"query": "a\ud800b "}') == "a?b"


def test_a_tool_s_options_are_used() -> None:
    assert SearchTool.of({"type": "file_search"}, "f") == SearchTool("f", 20, 0.0)
    ranking = {"score_threshold": 0.4, "ranker": "auto"}
    tool = {"type": "file_search", "file_search": {"max_num_results": 3, "ranking_options": ranking}}
    assert SearchTool.of(tool, "f") == SearchTool("f", 3, 0.4)
