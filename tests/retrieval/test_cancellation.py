"""Files in progress are cancelled in groups, whatever has happened to some of them."""

from pathlib import Path

from retrieval.cancellation import MAX_CHANGED, cancel_files
from retrieval.vector_store_drafts import draft_store
from store.ports import Delete, Insert, PageQuery, Patch, Row, store_file_id
from store.sqlite.store import SqliteStore, open_store
from wire.files import FileCreate, new_file
from wire.vector_stores import VectorStoreCreate

OWNER = "ann"


async def files_in_progress(store: SqliteStore, count: int) -> tuple[str, list[str]]:
    """Add a vector store with files in progress; return its id and those of the files."""
    ids = [f"file-{number:04}" for number in range(count)]
    request = FileCreate.model_validate({"purpose": "assistants"})
    files = [Insert(Row("file", id, OWNER, new_file(request, id=id, filename="a", size=1, now=1))) for id in ids]
    draft, rows = draft_store(OWNER, VectorStoreCreate.model_validate({"file_ids": ids}), now=1)
    await store.commit([*files, Insert(draft), *map(Insert, rows)], durable=False)
    return draft.id, ids


async def test_many_files_are_cancelled_in_few_commits(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    vector_store_id, _ = await files_in_progress(store, 4 * MAX_CHANGED + 50)
    before = store.engine.metrics.batch_commits.total
    cancelled = await cancel_files(store, store.file_queries, OWNER, vector_store_id, None)
    assert store.engine.metrics.batch_commits.total - before <= 6
    assert len(cancelled) == 4 * MAX_CHANGED + 50
    totals = await store.file_queries.file_totals("vector_store_id", [vector_store_id])
    assert totals[vector_store_id].by_status == {"cancelled": 4 * MAX_CHANGED + 50}
    await store.close()


async def test_files_that_end_meanwhile_keep_their_status_and_block_no_others(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    vector_store_id, ids = await files_in_progress(store, 150)

    class Racing:
        """The queries; a file ends, and one is removed, after they are listed."""

        async def store_files(self, owner: str, query: PageQuery, **at: str | None) -> object:
            page = await store.file_queries.store_files(owner, query, **at)  # type: ignore[arg-type]
            ended, gone = (store_file_id(vector_store_id, ids[number]) for number in (3, 120))
            changes = [Patch("vector_store_file", ended, OWNER, {"status": "completed"})]
            await store.commit([*changes, Delete("vector_store_file", gone, OWNER)], durable=False)
            return page

    await cancel_files(store, Racing(), OWNER, vector_store_id, None)  # type: ignore[arg-type]
    totals = await store.file_queries.file_totals("vector_store_id", [vector_store_id])
    assert totals[vector_store_id].by_status == {"cancelled": 148, "completed": 1}
    await store.close()
