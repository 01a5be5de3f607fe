"""All images of a prompt share one limit, in whatever form they are sent."""

import base64
from pathlib import Path
from random import Random
from typing import Any

import pytest

from retrieval.images import Images
from store.blobs import FolderBlobs
from store.ports import Insert
from store.sqlite.store import open_store
from tests.store.rows import file


def _message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


async def test_images_in_messages_and_in_files_share_one_limit(tmp_path: Path) -> None:
    store, blobs = await open_store(), FolderBlobs(tmp_path)
    await blobs.open()
    row = file(bytes=1_000_000)
    await store.commit([Insert(row)], durable=True)
    async with blobs.create(2_000_000, "too long") as writer:
        await writer.write(b"\x89PNG\r\n\x1a\n" + bytes(999_992))
        await writer.commit(row.id)
    address = {"type": "image_url", "image_url": {"url": "data:" + "A" * 10_000_000}}
    named = {"type": "image_file", "image_file": {"file_id": row.id}}
    for addresses, shown in ((4, ["image_url"]), (5, ["image_file"])):
        messages = [_message(named), *[_message(address)] * addresses]
        found = await Images(store, blobs).inline("ann", messages)
        assert [part["type"] for part in found[0]["content"]] == shown
    newest = await Images(store, blobs).inline("ann", [*[_message(address)] * 5, _message(named)])
    assert newest[-1]["content"][0]["type"] == "image_url"
    await store.close()


@pytest.mark.parametrize("size", [12, 13, 14, 1024 * 1024, 2 * 1024 * 1024 + 1, 3 * 1024 * 1024 - 1])
async def test_an_image_of_any_size_is_sent_complete(tmp_path: Path, size: int) -> None:
    data = b"RIFF\0\0\0\0WEBP" + Random(size).randbytes(size - 12)
    store, blobs = await open_store(), FolderBlobs(tmp_path)
    await blobs.open()
    row = file(bytes=size)
    await store.commit([Insert(row)], durable=True)
    async with blobs.create(size, "") as writer:
        await writer.write(data)
        await writer.commit(row.id)
    (found,) = await Images(store, blobs).inline(
        "ann", [_message({"type": "image_file", "image_file": {"file_id": row.id}})]
    )
    assert found["content"][0]["image_url"]["url"] == f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    await store.close()
