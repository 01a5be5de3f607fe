"""Passages that an older version indexed are found while they are rewritten, and afterwards like new ones."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from store.ports import Chunk, Query
from store.sqlite.backup import DATABASE_NAME, back_up
from store.sqlite.compaction import compact
from store.sqlite.store import SqliteStore, open_store
from tests.store.former import write_former

FORMS = {
    "file-korean": [
        (
            f"환불정책{at} 영수증을 number{at} 고객센터에서는",
            f"환불정책{at} 영수증을 number{at} 고객센터에서는",
            f" 환불 불정 정책 책 {at}  영수 수증 증을 을  number{at}  고객 객센 센터 터에 에서 서는 는 ",
        )
        for at in range(100)
    ],
    "file-chinese": [
        ("申请退款政策 number500", " 申请 请退 退款 款政 政策  number500", " 申请 请退 退款 款政 政策 策  number500")
    ],
    "file-latin": [(f"The “ferry” to café {at} leaves",) * 3 for at in range(80)],
}
"""Each file's passages: their text, and their words in forms 1 and 2."""


@dataclass(frozen=True)
class Former:
    """The form of the files, `refolded` as the former schema wrote it, and how many passages of each are in form 2."""

    form: int
    refolded: int | None
    in_form_2: int

    @property
    def start(self) -> int:
        """How many passages have the form after the files' when rewriting begins."""
        return self.in_form_2 if self.form == 1 else 0


FORMER = {
    "form 1": Former(1, None, 0),
    "form 1, half rewritten": Former(1, 40, 40),
    "form 2": Former(2, 100, 100),  # rewritten once
}

FILES = {file_id: [(text, words) for text, words, _ in passages] for file_id, passages in FORMS.items()}


OLD_WORDS = ["영수증을", "退款政策", "ferry", "number99", "number500"]
"""Texts that the first form finds."""

NEW_WORDS = ["영수증", "환불 정책", "고객 센터", "고객센터", "책", "을"]
"""Texts that only the second form finds."""


@pytest.fixture(params=FORMER.values(), ids=FORMER)
def former(request: pytest.FixtureRequest) -> Former:
    found: Former = request.param
    return found


@pytest.fixture
def path(tmp_path: Path, former: Former) -> Path:
    files = {
        file_id: [
            (text, second if at < former.in_form_2 else first) for at, (text, first, second) in enumerate(passages)
        ]
        for file_id, passages in FORMS.items()
    }
    write_former(tmp_path / "former.db", files, form=former.form, refolded=former.refolded)
    return tmp_path / "former.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(path)
    yield opened
    await opened.close()


async def refresh(store: SqliteStore, commits: int | None = None) -> None:
    """Rewrite everything, or stop after about this many commits."""

    async def work() -> None:
        async with aclosing(store.vectors.refresh()) as files:  # type: ignore[type-var]
            async for _ in files:
                pass

    if commits is None:
        await work()
        return
    task = asyncio.ensure_future(work())
    before = store.engine.metrics.batch_commits.total
    while not task.done():
        if store.engine.metrics.batch_commits.total - before >= commits:
            task.cancel()
        await asyncio.sleep(0)
    if not task.cancelled():
        await task


async def look(store: SqliteStore, text: str) -> list[tuple[str, int]]:
    hits = (await store.vectors.search("ann", ["vs"], Query(text, limit=200))).hits
    return sorted((hit.file_id, hit.chunk.index) for hit in hits)


async def terms(store: SqliteStore) -> list[tuple[str, int, int]]:
    """Return the full-text index: each term with its number of passages and occurrences."""
    sql = "SELECT term, doc, cnt FROM index_terms WHERE col = 'text' ORDER BY term"
    return await store.engine.read(lambda conn: conn.execute(sql).fetchall())


async def left(store: SqliteStore) -> int:
    async with aclosing(store.vectors.refresh()) as files:  # type: ignore[type-var]
        return await anext(files)


async def fresh_terms(tmp_path: Path, *file_ids: str) -> list[tuple[str, int, int]]:
    """Return the index after this version adds these files."""
    opened = await open_store(tmp_path / "fresh.db")
    for file_id in file_ids:
        chunks = [Chunk(at, text, 0, 1) for at, (text, _) in enumerate(FILES[file_id])]
        await opened.vectors.add("ann", "vs", file_id, chunks, model=None)
    found = await terms(opened)
    await opened.close()
    return found


async def test_passages_are_found_before_and_after_the_rewriting(store: SqliteStore) -> None:
    before = {words: await look(store, words) for words in OLD_WORDS}
    assert [len(found) for found in before.values()] == [100, 1, 80, 1, 1]
    await refresh(store)
    assert {words: await look(store, words) for words in OLD_WORDS} == before


async def test_the_second_form_finds_what_the_first_one_did_not(store: SqliteStore, former: Former) -> None:
    found = [("file-korean", at) for at in range(100)]
    assert {words: await look(store, words) for words in NEW_WORDS} == dict.fromkeys(
        NEW_WORDS, found[: former.in_form_2]
    )
    await refresh(store)
    assert {words: await look(store, words) for words in NEW_WORDS} == dict.fromkeys(NEW_WORDS, found)


async def test_searches_during_the_rewriting_find_each_passage_once(store: SqliteStore) -> None:
    task = asyncio.ensure_future(refresh(store))
    looks = 0
    while not task.done():
        assert await look(store, "영수증을") == [("file-korean", at) for at in range(100)]
        assert await look(store, "number99") == [("file-korean", 99)]
        assert await look(store, "退款政策") == [("file-chinese", 0)]
        looks += 1
    await task
    assert looks > 3


async def test_the_rewritten_index_equals_a_new_one(store: SqliteStore, tmp_path: Path) -> None:
    await refresh(store)
    assert await terms(store) == await fresh_terms(tmp_path, *FILES)
    assert await left(store) == 0


@pytest.mark.parametrize("commits", [*(pytest.param(each, marks=pytest.mark.soak) for each in (1, 5, 14)), 2, 12])
async def test_an_interrupted_rewrite_resumes_anywhere(path: Path, tmp_path: Path, commits: int) -> None:
    opened = await open_store(path)
    await refresh(opened, commits)
    assert await left(opened) > 0
    assert await look(opened, "number99") == [("file-korean", 99)]
    await opened.close()
    opened = await open_store(path)
    assert await look(opened, "영수증을") == [("file-korean", at) for at in range(100)]
    await refresh(opened)
    assert await terms(opened) == await fresh_terms(tmp_path, *FILES)
    await opened.close()


@pytest.mark.parametrize("commits", [0, 3, None], ids=["before", "half way", "after"])
async def test_a_half_rewritten_file_is_removed_completely(
    store: SqliteStore, tmp_path: Path, commits: int | None
) -> None:
    await refresh(store, commits)
    await store.vectors.remove("ann", "vs", "file-korean")
    await store.vectors.purge()
    assert await look(store, "영수증을 영수증") == []
    await refresh(store)
    assert await terms(store) == await fresh_terms(tmp_path, "file-chinese", "file-latin")


async def test_a_file_removed_while_it_is_rewritten_stays_removed(store: SqliteStore, tmp_path: Path) -> None:
    task = asyncio.ensure_future(refresh(store))
    await asyncio.sleep(0.01)
    await store.vectors.remove("ann", "vs", "file-korean")
    await asyncio.gather(task, store.vectors.purge())
    assert await terms(store) == await fresh_terms(tmp_path, "file-chinese", "file-latin")


async def test_files_added_during_the_rewriting_have_the_new_form(store: SqliteStore) -> None:
    await refresh(store, 3)
    await store.vectors.add("ann", "vs", "file-new", [Chunk(0, "보증기간은 2년", 0, 1)], model=None)
    assert await look(store, "보증 기간") == [("file-new", 0)]
    await refresh(store)
    assert await look(store, "보증 기간") == [("file-new", 0)]


async def test_a_file_added_again_replaces_the_old_form(store: SqliteStore) -> None:
    await store.vectors.add("ann", "vs", "file-korean", [Chunk(0, "보증기간은 2년", 0, 1)], model=None)
    await store.vectors.purge()
    await refresh(store)
    assert await look(store, "영수증을 보증") == [("file-korean", 0)]


async def test_unchanged_words_are_not_written_again(path: Path, former: Former) -> None:
    statements: list[str] = []
    opened = await open_store(path, trace=statements.append)
    await refresh(opened)
    deleted = [
        statement for statement in statements if "VALUES ('delete'" in statement and "index_words (" in statement
    ]
    in_form_1 = (100 - former.in_form_2) + (former.in_form_2 == 0)  # of the Korean and the Chinese file
    assert len(deleted) == 101 + in_form_1
    assert [statement for statement in deleted if "ferry" in statement] == []
    await opened.close()


async def test_a_commit_is_limited_by_the_folded_text(tmp_path: Path) -> None:
    texts = ["\ufdfa" * 500 for _ in range(30)]  # each is folded to 18 characters
    files = {"file-long": [(text, text) for text in texts]}
    await asyncio.to_thread(write_former, tmp_path / "long.db", files)
    statements: list[str] = []
    opened = await open_store(tmp_path / "long.db", trace=statements.append)
    await refresh(opened)
    await opened.close()
    sizes = [
        sum(len(each.encode()) for each in transaction.split("\n") if each.startswith("INSERT INTO index_words"))
        for transaction in "\n".join(statements).split("\nCOMMIT")
    ]
    assert len([size for size in sizes if size]) > 4
    assert max(sizes) < 58 * 1024  # 32 KB and a passage


async def test_vectors_and_texts_are_unchanged(store: SqliteStore) -> None:
    sql = "SELECT file, hex(vectors) FROM index_vectors UNION ALL SELECT seq, text FROM index_chunks"
    before = await store.engine.read(lambda conn: conn.execute(sql).fetchall())
    await refresh(store)
    assert await store.engine.read(lambda conn: conn.execute(sql).fetchall()) == before
    found = await store.vectors.search("ann", ["vs"], Query("영수증", [1.0, 0.0], "m", limit=200))
    assert (len(found.hits), found.by_words_only) == (181, frozenset())


def shrink(path: Path, _: Path) -> Path:
    compact(path)
    return path


def copy(path: Path, folder: Path) -> Path:
    back_up(path, folder / "files", folder / "copy", on_progress=lambda what, done, of: None)
    return folder / "copy" / DATABASE_NAME


@pytest.mark.parametrize("handle", [shrink, copy])
async def test_a_half_rewritten_file_can_be_compacted_and_copied(
    path: Path, tmp_path: Path, handle: Callable[[Path, Path], Path]
) -> None:
    opened = await open_store(path)
    await refresh(opened, 4)
    await opened.close()
    opened = await open_store(await asyncio.to_thread(handle, path, tmp_path))
    assert await look(opened, "영수증을") == [("file-korean", at) for at in range(100)]
    await refresh(opened)
    assert await terms(opened) == await fresh_terms(tmp_path, *FILES)
    await opened.close()


async def test_a_file_removed_between_folding_and_writing_is_skipped(path: Path, former: Former) -> None:
    loop = asyncio.get_running_loop()
    removed: list[asyncio.Task[None]] = []

    def remove() -> None:
        if not removed:
            removed.append(asyncio.ensure_future(opened.vectors.remove("ann", "vs", "file-korean")))

    def trace(statement: str) -> None:
        if statement.startswith("SELECT seq, text FROM index_chunks"):
            loop.call_soon_threadsafe(remove)  # before the rows that were read return to the loop

    opened = await open_store(path, trace=trace)
    await refresh(opened)
    await removed[0]
    sql = "SELECT state, form, refolded FROM index_files WHERE file_id = 'file-korean'"
    expected = ("gone", former.form, former.start)
    assert await opened.engine.read(lambda conn: conn.execute(sql).fetchone()) == expected
    await opened.close()


def add_stray(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("INSERT INTO index_words (rowid, store, text) VALUES (?, 's1', 'ferry')", (99 << 20,))


async def test_words_without_a_passage_do_not_affect_searches(path: Path) -> None:
    await asyncio.to_thread(add_stray, path)
    opened = await open_store(path)
    assert await look(opened, "ferry") == [("file-latin", at) for at in range(80)]
    await opened.close()
