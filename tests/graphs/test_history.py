"""A thread's history is bounded in messages as well as in characters."""

import pytest

from graphs.history import cut_from, load_history
from store import open_store
from store.ports import Insert
from tests.store.rows import message, thread
from wire.errors import InvalidRequest


async def test_the_newest_two_thousand_messages_are_read_however_short() -> None:
    store = await open_store()
    row = thread()
    said = [message(row, content=[{"type": "text", "text": {"value": str(number)}}]) for number in range(2_500)]
    await store.commit([Insert(row), *(Insert(one) for one in said)], durable=True)
    found = await load_history(store, "ann", row.id, run_id=None)
    assert [body["id"] for body in found.messages] == [one.id for one in said[500:]]
    assert found.clipped
    _, gone = await cut_from(store, "ann", row.id, said[500].id)
    assert [change.id for change in gone] == [one.id for one in said[500:]]
    with pytest.raises(InvalidRequest, match="at most 2000 messages"):
        await cut_from(store, "ann", row.id, said[499].id)
    await store.close()
