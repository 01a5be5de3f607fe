"""A thread's history is limited in messages, characters, parts, and in what the store reads for it."""

from typing import Any

import pytest

from graphs.history import cut_from, history_of, load_history
from store.ports import Insert, PageQuery
from store.sqlite.store import open_store
from tests.store.rows import assistant, message, thread
from wire.errors import InvalidRequest, NotFound


async def test_the_newest_two_thousand_messages_are_read_however_short() -> None:
    store = await open_store()
    row = thread()
    messages = [message(row, content=[{"type": "text", "text": {"value": str(number)}}]) for number in range(2_500)]
    await store.commit([Insert(row), *(Insert(one) for one in messages)], durable=True)
    found = await load_history(store, "ann", row.id, run_id=None)
    assert [body["id"] for body in found.messages] == [one.id for one in messages[500:]]
    assert found.clipped
    _, gone = await cut_from(store, "ann", row.id, messages[500].id)
    assert [change.id for change in gone] == [one.id for one in messages[500:]]
    with pytest.raises(InvalidRequest, match="at most 2000 messages"):
        await cut_from(store, "ann", row.id, messages[499].id)
    await store.close()


@pytest.mark.parametrize(
    ("size", "letter", "parts"),
    [(5_000_000, "a", 1), (25_000, "a", 200), (1_700_000, "文", 1)],
    ids=["text", "many parts", "three bytes a character"],
)
async def test_a_replacement_of_messages_is_limited_in_bytes(size: int, letter: str, parts: int) -> None:
    store = await open_store()
    row = thread()
    messages = [message(row, content=[_text(letter * size)] * parts) for _ in range(9)]
    await store.commit([Insert(row)], durable=True)
    for one in messages:
        await store.commit([Insert(one)], durable=False)
    with pytest.raises(InvalidRequest, match="at most 40 MiB of messages and tool calls"):
        await cut_from(store, "ann", row.id, messages[0].id)
    _, gone = await cut_from(store, "ann", row.id, messages[2].id)
    assert [change.id for change in gone] == [one.id for one in messages[2:]]
    await store.close()


async def test_a_last_message_of_any_size_can_be_replaced() -> None:
    store = await open_store()
    row = thread()
    messages = message(row, content=[_text("a" * 45_000_000)])
    await store.commit([Insert(row), Insert(messages)], durable=True)
    _, gone = await cut_from(store, "ann", row.id, messages.id)
    assert [change.id for change in gone] == [messages.id]
    await store.commit([Insert(message(row))], durable=True)
    with pytest.raises(InvalidRequest, match="40 MiB"):
        await cut_from(store, "ann", row.id, messages.id)
    with pytest.raises(NotFound):
        await cut_from(store, "ann", row.id, "msg_none")
    await store.close()


def _text(value: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": list(annotations)}}


LONG = "A" * 5_000_000
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{LONG}", "detail": "auto"}}


@pytest.mark.parametrize(
    ("parts", "maximum"),
    [
        ([_text("a")] * 500, 80),
        ([_text("a", *[{"type": "file_citation"}] * 500)], 80),
        ([{"type": "image_url", "image_url": {"url": "https://x.test"}}], 401),
        ([{"type": "image_file", "image_file": {"file_id": "file-a"}}] * 10, 41),
        ([{"type": "refusal", "refusal": "n" * 10_000}], 121),
    ],
    ids=["parts", "annotations", "images by URL", "images by file", "refusals"],
)
async def test_every_part_of_a_message_counts(parts: list[dict[str, Any]], maximum: int) -> None:
    store = await open_store()
    row = thread()
    messages = [message(row, content=parts) for _ in range(500)]
    await store.commit([Insert(row), *map(Insert, messages)], durable=True)
    found = await load_history(store, "ann", row.id, run_id=None)
    assert maximum / 2 < len(found.messages) <= maximum
    assert found.clipped
    assert found.messages[-1]["id"] == messages[-1].id
    assert history_of(messages) == found  # messages of the run's own request
    await store.close()


@pytest.mark.parametrize(
    ("parts", "more", "has_start"),
    [
        ([PICTURE], {}, False),
        ([PICTURE], {}, True),
        ([_text("a")], {"attachments": [{"file_id": LONG, "tools": [{"type": "file_search"}]}]}, False),
        ([_text("a")], {"metadata": {"a": LONG}}, True),
    ],
    ids=["images", "images cut off", "attachments", "metadata cut off"],
)
async def test_the_bytes_that_the_store_reads_for_a_run_are_bounded(
    parts: list[dict[str, Any]], more: dict[str, Any], has_start: bool
) -> None:
    store = await open_store()
    row, asked = thread(), assistant()
    messages = [message(row, content=parts, **more) for _ in range(11)]
    await store.commit([Insert(row), Insert(asked), *map(Insert, messages)], durable=True)
    first = (await store.run_start("ann", row.id, asked.id, 40)).newest if has_start else None
    assert first is None or len(first.rows) == 1
    found = await load_history(store, "ann", row.id, run_id=None, first=first)
    assert [body["id"] for body in found.messages] == [one.id for one in messages[-9:]]
    assert found.clipped
    assert not any(body.get("attachments") for body in found.messages)
    await store.close()


async def test_the_first_page_is_the_same_however_it_is_read() -> None:
    store = await open_store()
    row, asked = thread(), assistant()
    messages = [message(row, content=[_text("a" * 900_000)]) for _ in range(9)]
    await store.commit([Insert(row), Insert(asked), *map(Insert, messages)], durable=True)
    for limit in (2, 40):
        start = (await store.run_start("ann", row.id, asked.id, limit)).newest
        page = await store.page("message", "ann", PageQuery(limit=limit), thread_id=row.id)
        assert (len(start.rows), start.has_more, start.size) == (
            len(page.rows),
            page.has_more,
            page.size,
        )
        assert len(page.rows) == min(limit, 4)
    await store.close()
