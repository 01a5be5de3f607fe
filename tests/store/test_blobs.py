"""Every rule of the port in `store/blobs.py`, for the folder. Another backend is one more parameter of `blobs`."""

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from store.blobs import FolderBlobs
from store.ports import Blobs
from wire.errors import StoreFailed, TooLarge

ID = "file-abcDEF"
TOLD = "The file is longer than the 3000000 bytes that MAX_FILE_BYTES allows."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
async def blobs(folder: Path) -> FolderBlobs:
    made = FolderBlobs(folder)
    await made.open()
    return made


async def files(folder: Path) -> list[str]:
    def look() -> list[str]:
        return sorted(path.name for path in folder.rglob("*") if path.is_file())

    return await asyncio.to_thread(look)


async def put(blobs: Blobs, name: str, *blocks: bytes) -> None:
    async with blobs.create(3_000_000, TOLD) as writer:
        for block in blocks:
            await writer.write(block)
        await writer.commit(name)


async def got(blobs: Blobs, name: str) -> bytes:
    return b"".join([block async for block in blobs.read(name)])


async def test_a_blob_is_returned_complete_and_measured(blobs: Blobs) -> None:
    blocks = [bytes([number]) * 300_000 for number in range(9)]
    async with blobs.create(3_000_000, TOLD) as writer:
        for block in blocks:
            await writer.write(block)
        size = await writer.commit(ID)
    assert (size.bytes, size.sha256) == (2_700_000, hashlib.sha256(b"".join(blocks)).hexdigest())
    assert await got(blobs, ID) == b"".join(blocks)
    assert await blobs.size(ID) == 2_700_000
    await put(blobs, ID, b"anew")
    assert await got(blobs, ID) == b"anew"


async def test_a_local_file_has_an_absolute_path_and_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(monkeypatch.chdir, tmp_path)
    blobs = FolderBlobs(Path("here"))
    await blobs.open()
    await put(blobs, ID, b"x")
    async with blobs.local_file(ID) as path:
        assert path.is_absolute()
        assert await asyncio.to_thread(path.read_bytes) == b"x"
    with pytest.raises(StoreFailed, match="no blob"):
        async with blobs.local_file(f"{ID}.text"):
            pass


async def test_an_empty_blob_can_be_kept(blobs: Blobs) -> None:
    await put(blobs, ID)
    assert await got(blobs, ID) == b""


async def test_a_failed_write_leaves_nothing(blobs: Blobs, folder: Path) -> None:
    with pytest.raises(RuntimeError):
        async with blobs.create(3_000_000, TOLD) as writer:
            await writer.write(b"x" * 2_000_000)
            raise RuntimeError
    assert await files(folder) == []
    assert await blobs.size(ID) is None
    with pytest.raises(StoreFailed):
        await got(blobs, ID)


async def test_one_byte_over_the_limit_is_refused_and_leaves_nothing(blobs: Blobs, folder: Path) -> None:
    async with blobs.create(3, TOLD) as writer:
        await writer.write(b"abc")
        with pytest.raises(TooLarge, match="MAX_FILE_BYTES"):
            await writer.write(b"d")
    assert await files(folder) == []


async def test_removing_includes_the_text_and_can_be_repeated(blobs: Blobs, folder: Path) -> None:
    await put(blobs, ID, b"x")
    await put(blobs, f"{ID}.text", b"y")
    for _ in range(2):
        await blobs.remove(ID)
        assert await files(folder) == []


async def test_a_sweep_removes_unreferenced_and_unfinished_blobs(blobs: Blobs, folder: Path) -> None:
    for name in (ID, f"{ID}.text", "file-gone", "file-gone.text"):
        await put(blobs, name, b"x")
    async with blobs.create(10, TOLD) as left:
        await left.write(b"x")
        assert len(await files(folder)) == 5

        async def unknown(ids: Sequence[str]) -> list[str]:
            return [id for id in ids if id != ID]

        assert await blobs.sweep(unknown) == 1
    assert await files(folder) == [ID, f"{ID}.text"]


async def test_a_sweep_keeps_recent_blobs(blobs: Blobs, folder: Path) -> None:
    for name in (ID, f"{ID}.text", "file-old"):
        await put(blobs, name, b"x")
    async with blobs.create(10, TOLD) as left, blobs.create(10, TOLD) as old:
        for writer in (left, old):
            await writer.write(b"x")

        def age() -> list[str]:
            first, *others = sorted((folder / "incoming").iterdir())
            for path in (first, *folder.rglob("file-old")):
                os.utime(path, (1, 1))
            return [path.name for path in others]

        young = await asyncio.to_thread(age)

        async def unknown(ids: Sequence[str]) -> Sequence[str]:
            return ids

        assert await blobs.sweep(unknown, min_age_s=60) == 1
        assert await files(folder) == sorted([ID, f"{ID}.text", *young])
    assert await files(folder) == [ID, f"{ID}.text"]


async def test_a_sweep_asks_once_for_any_number_of_blobs(blobs: Blobs) -> None:
    for number in range(600):
        await put(blobs, f"file-{number}", b"x")
    asked: list[int] = []

    async def unknown(ids: Sequence[str]) -> list[str]:
        asked.append(len(ids))
        return []

    assert await blobs.sweep(unknown) == 0
    assert asked == [600]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "x.text.text", "file-\n", "x\x00", "file-a.txt"])
async def test_a_name_is_an_id_and_nothing_else(blobs: Blobs, name: str) -> None:
    for call in (blobs.size(name), blobs.remove(name), got(blobs, name), put(blobs, name, b"x")):
        with pytest.raises(StoreFailed, match="not a name of a blob"):
            await call


async def test_only_the_owner_of_the_process_has_access(blobs: Blobs, folder: Path) -> None:
    await put(blobs, ID, b"x")
    found = await asyncio.to_thread(os.stat, folder)
    assert found.st_mode & 0o077 == 0


async def test_a_disk_error_becomes_the_store_s_error(blobs: Blobs, folder: Path) -> None:
    await asyncio.to_thread((folder / "incoming").rmdir)
    with pytest.raises(StoreFailed, match="The disk refused"):
        async with blobs.create(10, TOLD):
            pass


@pytest.mark.parametrize("turns", range(4))
async def test_cancelling_while_a_file_opens_leaves_none_open(blobs: FolderBlobs, turns: int) -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def write() -> None:
        async with blobs.create(1, TOLD):
            await asyncio.sleep(60)

    async def read() -> None:
        async for _ in blobs.read(ID):
            await asyncio.sleep(60)

    await put(blobs, ID, b"bytes")
    before = await asyncio.to_thread(opened)
    tasks = [asyncio.create_task(work()) for work in (write, read) * 20]
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert await asyncio.to_thread(opened) == before
