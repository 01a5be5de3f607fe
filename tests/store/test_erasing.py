"""Removed rows leave the index in small commits, whatever their texts, and nothing remains."""

import asyncio
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from store.backend import open_backend
from store.folding import fold_passage
from store.ports import Chunk, Query, Sharing
from store.sqlite.store import SqliteStore, open_store

TEXTS = {
    "ligatures": "\ufdfa" * 2_000,  # each is folded to 18 characters
    "squares": "\u337f" * 600,  # to four ideographs, which are three pairs
    "ideographs": "".join(map(chr, range(0x4E00, 0x4E00 + 1_000))),
    "latin": "the ferry leaves at seven " * 150,
}
SHORT = {name: text[:500] for name, text in TEXTS.items()}
MAXIMUM = 32 * 1024
"""Bytes of folded text that a commit has before its last passage."""


def chunks(text: str, count: int = 20) -> list[Chunk]:
    vectors = [[1.0, float(at)] for at in range(count)]
    return [Chunk(at, f"{text} number{at}", 0, 1, vectors[at]) for at in range(count)]


@pytest.fixture
def statements() -> list[str]:
    return []


@pytest.fixture
async def store(tmp_path: Path, statements: list[str]) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "store.db", trace=statements.append)
    yield opened
    await opened.close()


async def contents(store: SqliteStore) -> list[Any]:
    """Return the terms of the full-text index with their counts, the words of all passages, and the number of other
    rows."""
    tables = ("index_stores", "index_files", "index_chunks", "index_vectors", "index_vector_slices")
    asked = [
        "SELECT term, col, doc, cnt FROM index_terms ORDER BY term, col",
        "SELECT count(*), total(length(sz)) FROM index_words_docsize",
        " UNION ALL ".join(f"SELECT count(*) FROM {table}" for table in tables),
    ]
    return [await store.engine.read(lambda conn, sql=sql: conn.execute(sql).fetchall()) for sql in asked]


def commits(statements: list[str], form: str) -> Iterator[list[int]]:
    """Yield the bytes of the words that each transaction writes with statements of this form."""
    sizes: list[int] = []
    for statement in statements:
        if statement.startswith(form):
            sizes.append(len(statement.encode()))
        elif statement == "COMMIT" and sizes:
            yield sizes
            sizes = []


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_a_commit_is_limited_by_the_folded_text(store: SqliteStore, statements: list[str], text: str) -> None:
    await store.vectors.add("ann", "vs", "file", chunks(text), model="m")
    await store.vectors.remove("ann", "vs", "file")
    await store.vectors.purge()
    for form in ("INSERT INTO index_words (rowid", "INSERT INTO index_words (index_words"):
        found = list(commits(statements, form))
        assert sum(map(len, found)) == 20
        for sizes in found:
            assert sum(sizes[:-1]) < MAXIMUM + 200 * len(sizes)
            assert len(sizes) <= 16
    assert len(found) < 20 or text == TEXTS["ligatures"]


@pytest.fixture
def folders() -> Iterator[set[str]]:
    """The names of the threads that are started during the test and fold passages."""
    names: set[str] = set()
    code = fold_passage.__code__

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is code:
            names.add(threading.current_thread().name)

    threading.setprofile(profile)
    yield names
    threading.setprofile(None)  # type: ignore[arg-type]
    sys.setprofile(None)


async def test_no_text_is_folded_on_the_writer_s_thread(folders: set[str], tmp_path: Path) -> None:
    opened = await open_store(tmp_path / "store.db")
    await opened.vectors.add("ann", "vs", "file", chunks("ferry"), model="m")
    await opened.vectors.remove("ann", "vs", "file")
    await opened.vectors.purge()
    await opened.close()
    assert "threadhold-writer" not in folders


def copy(path: Path, to: Path) -> None:
    """Copy what is committed, as it is after a crash."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


async def test_a_crash_in_a_removal_is_completed_after_the_next_start(store: SqliteStore, tmp_path: Path) -> None:
    await store.vectors.add("ann", "vs", "kept", chunks("the ferry"), model="m")
    before = await contents(store)
    for name, text in SHORT.items():
        await store.vectors.add("ann", "vs", name, chunks(text), model="m")
        await store.vectors.remove("ann", "vs", name)
    made = store.engine.metrics.batch_commits
    start = made.total
    purging = asyncio.ensure_future(store.vectors.purge())
    for number in range(4):
        while not purging.done() and made.total - start < 1 + 3 * number:
            await asyncio.sleep(0)
        await asyncio.to_thread(copy, tmp_path / "store.db", tmp_path / f"crash{number}.db")
    await purging
    assert await contents(store) == before
    for number in range(4):
        opened = await open_store(tmp_path / f"crash{number}.db")
        hits = (await opened.vectors.search("ann", ["vs"], Query("ferry", limit=50))).hits
        assert {hit.file_id for hit in hits} == {"kept"}
        await opened.vectors.purge()
        assert await contents(opened) == before
        await opened.close()


async def test_two_processes_can_erase_the_same_file(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        sharing = Sharing(lease_s=10.0, beat_s=0.1, poll_s=0.05)
        first, second = [
            await stack.enter_async_context(open_backend(tmp_path / "store.db", sharing=sharing)) for _ in range(2)
        ]
        await first.vectors.add("ann", "vs", "kept", chunks("the ferry"), model="m")
        for name, text in SHORT.items():
            await first.vectors.add("ann", "vs", name, chunks(text), model="m")
            await first.vectors.remove("ann", "vs", name)
        await asyncio.gather(first.vectors.purge(), second.vectors.purge())
    shared = await open_store(tmp_path / "store.db")
    fresh = await open_store(tmp_path / "fresh.db")
    await fresh.vectors.add("ann", "vs", "kept", chunks("the ferry"), model="m")
    assert await contents(shared) == await contents(fresh)
    await shared.close()
    await fresh.close()
