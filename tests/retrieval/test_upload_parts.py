"""Uploads in a real store and a real folder: expiry, and states after crashes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from retrieval.upload_parts import Uploads
from store.blobs import FolderBlobs
from store.ports import BlobWriter, PageQuery
from store.sqlite.store import SqliteStore, open_store
from tests.graphs.harness import Clock
from tests.retrieval.test_ingestion import until
from wire.errors import InvalidRequest, StoreFailed
from wire.uploads import UploadComplete, UploadCreate

OWNER = "ann"


@dataclass
class Harness:
    store: SqliteStore
    blobs: FolderBlobs
    uploads: Uploads
    clock: Clock
    folder: Path

    async def upload(self, size: int = 4) -> str:
        asked = UploadCreate(filename="a.txt", purpose="user_data", bytes=size, mime_type="text/plain")
        made: str = (await self.uploads.create(OWNER, asked))["id"]
        return made

    async def part(self, upload: str, data: bytes = b"data") -> str:
        async def receive(writer: BlobWriter) -> None:
            await writer.write(data)

        made: str = (await self.uploads.add_part(OWNER, upload, receive))["id"]
        return made

    async def status(self, upload: str) -> str:
        row = await self.store.get("upload", upload, OWNER)
        assert row is not None
        return str(row.body["status"])

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*_*") if path.is_file())


@asynccontextmanager
async def harness(folder: Path, clock: Clock | None = None, *, sweep_s: float = 0.01) -> AsyncIterator[Harness]:
    clock = clock or Clock()
    store = await open_store(folder / "t.db")
    blobs = FolderBlobs(folder / "files")
    await blobs.open()
    await blobs.sweep(store.file_queries.unknown)
    uploads = Uploads(store, store.file_queries, blobs, max_bytes=1000, sweep_s=sweep_s, clock=clock)
    try:
        async with uploads:
            yield Harness(store, blobs, uploads, clock, folder / "files")
    finally:
        await store.close()


async def test_an_upload_expires_after_an_hour_with_its_parts(tmp_path: Path) -> None:
    async with harness(tmp_path) as w:
        upload, young = await w.upload(), await w.upload()
        part, done = await w.part(upload), await w.upload()
        finished = await w.uploads.complete(OWNER, done, UploadComplete(part_ids=[await w.part(done)]))
        w.clock.now += 3599
        kept = await w.part(young)
        assert await w.status(upload) == "pending"
        w.clock.now += 1
        with pytest.raises(InvalidRequest, match="is expired"):  # whether it was swept yet or not
            await w.uploads.complete(OWNER, upload, UploadComplete(part_ids=[part]))

        async def are_expired() -> bool:  # the bytes are removed after the status is stored
            return await w.status(upload) == await w.status(young) == "expired" and not {part, kept} & set(w.kept())

        await until(are_expired)
        assert await w.status(done) == "completed"
        assert await w.store.get("file", finished["file"]["id"], OWNER)


async def test_more_uploads_than_are_read_together_expire_in_one_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.sqlite.files.DUE_AT_ONCE", 2)
    monkeypatch.setattr("retrieval.upload_parts.DUE_AT_ONCE", 2)
    clock = Clock()
    async with harness(tmp_path, clock) as w:
        uploads = [await w.upload() for _ in range(5)]
    clock.now += 3600
    async with harness(tmp_path, clock, sweep_s=600) as w:

        async def are_expired() -> bool:
            return {await w.status(upload) for upload in uploads} == {"expired"}

        await until(are_expired)


async def test_a_start_keeps_only_parts_of_pending_uploads(tmp_path: Path) -> None:
    async with harness(tmp_path) as w:
        upload = await w.upload()
        part = await w.part(upload)
        async with w.blobs.create(10, "") as writer:  # a crash between the bytes and their row
            await writer.write(b"lost")
            await writer.commit("part_lost")
        assert w.kept() == sorted(["part_lost", part])
    async with harness(tmp_path) as w:
        assert w.kept() == [part]
        assert (await w.uploads.complete(OWNER, upload, UploadComplete(part_ids=[part])))["status"] == "completed"


async def test_a_part_that_the_store_refuses_leaves_no_bytes(tmp_path: Path) -> None:
    async with harness(tmp_path) as w:
        upload = await w.upload()

        async def receive(writer: BlobWriter) -> None:
            await writer.write(b"data")
            await w.uploads.cancel(OWNER, upload)

        with pytest.raises(InvalidRequest, match="is cancelled"):
            await w.uploads.add_part(OWNER, upload, receive)
        assert w.kept() == []


async def test_a_completion_that_the_store_refuses_leaves_the_upload_pending(tmp_path: Path) -> None:
    async with harness(tmp_path) as w:
        upload = await w.upload()
        part = await w.part(upload)
        await w.store.close()
        with pytest.raises(StoreFailed):
            await w.uploads.complete(OWNER, upload, UploadComplete(part_ids=[part]))
    async with harness(tmp_path) as w:
        assert await w.status(upload) == "pending"
        assert w.kept() == [part]
        assert (await w.store.page("file", OWNER, PageQuery())).rows == []
        assert [path for path in w.folder.rglob("file-*") if path.is_file()] == []


async def test_missing_bytes_are_reported(tmp_path: Path) -> None:
    async with harness(tmp_path) as w:
        upload = await w.upload()
        part = await w.part(upload)
        await w.blobs.remove(part)
        with pytest.raises(InvalidRequest, match="are gone"):
            await w.uploads.complete(OWNER, upload, UploadComplete(part_ids=[part]))
