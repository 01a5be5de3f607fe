"""The words of a query that are searched for: rare words before common ones, within a limit."""

from collections.abc import AsyncIterator

import pytest

from store.folding import fold
from store.ports import Chunk, Query
from store.sqlite.fulltext import split, split_former
from store.sqlite.store import SqliteStore, open_store


@pytest.fixture
async def statements() -> list[str]:
    return []


@pytest.fixture
async def store(statements: list[str]) -> AsyncIterator[SqliteStore]:
    opened = await open_store(trace=statements.append)
    yield opened
    await opened.close()


async def look(store: SqliteStore, statements: list[str], text: str) -> list[str]:
    """Return the words that are looked up in the index."""
    statements.clear()
    await store.vectors.search("ann", ["vs"], Query(text))
    asked = [statement for statement in statements if "text : (" in statement]
    return asked[0].partition("text : (")[2].partition(")")[0].replace('"', "").split(" OR ") if asked else []


async def test_a_ubiquitous_word_is_ignored_unless_it_is_the_only_one(
    store: SqliteStore, statements: list[str]
) -> None:
    chunks = [Chunk(index, f"the cat{index % 3} {'zebra' if index == 7 else ''}", 0, 1) for index in range(1200)]
    await store.vectors.add("ann", "vs", "file", chunks, model=None)
    assert await look(store, statements, "The zebra, the cat1 and the unicorn") == ["zebra", "cat1"]
    assert await look(store, statements, "the") == ["the"]
    assert await look(store, statements, "unicorn") == []


@pytest.mark.parametrize("owner", ["ann", "bob"])
async def test_words_that_are_common_in_other_stores_are_searched_for(
    store: SqliteStore, statements: list[str], owner: str
) -> None:
    await store.vectors.add("ann", "vs", "file", [Chunk(0, "the penalty", 0, 1), Chunk(1, "zebra", 0, 1)], model=None)
    many = [Chunk(index, "the penalty clause", 0, 1) for index in range(3000)]
    await store.vectors.add(owner, "other", "file-2", many, model=None)
    assert await look(store, statements, "penalty zebra") == ["penalty", "zebra"]
    found = await store.vectors.search("ann", ["vs"], Query("penalty zebra"))
    assert [hit.chunk.index for hit in found.hits] == [1, 0]


async def test_in_a_small_index_every_word_counts(store: SqliteStore, statements: list[str]) -> None:
    chunks = [Chunk(index, "the cat", 0, 1) for index in range(20)]
    await store.vectors.add("ann", "vs", "file", chunks, model=None)
    assert await look(store, statements, "the cat") == ["the", "cat"]


def test_words_are_split_as_in_the_index() -> None:
    assert split("A-b c_d, E2! naïve a") == ["a", "b", "c", "d", "e2", "naïve"]
    assert split(" ".join(f"w{number}" for number in range(100)))[-1] == "w63"
    assert fold("東京へ go\0on").split() == ["東京", "京へ", "go", "on"]


async def test_a_single_character_is_looked_up_as_a_word(store: SqliteStore, statements: list[str]) -> None:
    """A prefix would match any number of words in the files of all owners."""
    texts = ["新しい店です", "กินข้าวเช้า", "요리책"]
    chunks = [Chunk(index, text, 0, 1) for index, text in enumerate(texts)]
    await store.vectors.add("ann", "vs", "file", chunks, model=None)
    assert await look(store, statements, "店 ข้ 책") == ["店", "ข\U000f0e49", "책"]
    assert not [statement for statement in statements if "term >=" in statement]
    hits = (await store.vectors.search("ann", ["vs"], Query("店 ข้ 책"))).hits
    assert sorted(hit.chunk.index for hit in hits) == [0, 1, 2]


def test_a_single_character_in_earlier_forms_is_a_prefix() -> None:
    text = "책 환불 fer* 책* \uff0a x"
    assert split(text) == ["책", "환불", "fer", "x"]
    assert split_former(text) == ["책*", "환불", "fer", "x", "책"]
