"""All pictures of a prompt share one limit, in whatever form they are sent."""

from pathlib import Path
from typing import Any

from retrieval.images import Images
from store import open_store
from store.blobs import FolderBlobs
from store.ports import Insert
from tests.store.rows import file


def _message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


async def test_pictures_in_messages_and_in_files_share_one_limit(tmp_path: Path) -> None:
    store, blobs = await open_store(), FolderBlobs(tmp_path)
    await blobs.open()
    row = file(bytes=1_000_000)
    await store.commit([Insert(row)], durable=True)
    async with blobs.writing(2_000_000, "too long") as writing:
        await writing.write(b"\x89PNG\r\n\x1a\n" + bytes(999_992))
        await writing.keep(row.id)
    address = {"type": "image_url", "image_url": {"url": "data:" + "A" * 10_000_000}}
    named = {"type": "image_file", "image_file": {"file_id": row.id}}
    for addresses, shown in ((4, ["image_url"]), (5, ["image_file"])):
        messages = [_message(named), *[_message(address)] * addresses]
        found = await Images(store, blobs).show("ann", messages)
        assert [part["type"] for part in found[0]["content"]] == shown
    newest = await Images(store, blobs).show("ann", [*[_message(address)] * 5, _message(named)])
    assert newest[-1]["content"][0]["type"] == "image_url"
    await store.close()
