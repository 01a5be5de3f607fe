"""Forms that arrive at the same time: how many are received, and whose."""

import asyncio
from typing import Any

from api.form_slots import FormSlot
from fairness.fair_limits import FairLimit

BLOCK = {"type": "http.request", "body": b"x", "more_body": True}
LAST = {"type": "http.request", "body": b"x", "more_body": False}
LEFT = {"type": "http.disconnect"}


class Client:
    """Sends messages, one for each `receive`."""

    def __init__(self, limit: FairLimit, owner: str, *messages: Any) -> None:
        self._messages = list(messages)
        self.turn = FormSlot(limit, owner)
        self.receive = self.turn.receiver(self._next)

    async def _next(self) -> Any:
        return self._messages.pop(0)


async def test_an_owner_receives_few_forms_at_a_time_without_delaying_others() -> None:
    limit = FairLimit(8, portion=1)
    clients = [Client(limit, "ann", BLOCK, BLOCK, LAST) for _ in range(20)]
    reads = [asyncio.ensure_future(client.receive()) for client in clients]
    await asyncio.sleep(0)
    first = [client for client, read in zip(clients, reads, strict=True) if read.done()]
    assert len(first) == 4
    other = Client(limit, "bob", BLOCK, LAST)
    async with asyncio.timeout(1):
        assert await other.receive() == BLOCK
        assert await other.receive() == LAST
        for client in first:
            assert [await client.receive(), await client.receive()] == [BLOCK, LAST]
    for client in [other, *first]:
        client.turn.release()
        client.turn.release()  # the second call has no effect
    await asyncio.sleep(0)
    assert sum(read.done() for read in reads) == 4 + 4
    for read in reads:
        read.cancel()
    await asyncio.wait(reads)


async def test_short_forms_and_clients_that_left_need_no_turn() -> None:
    limit = FairLimit(1)
    limit.acquire_nowait("ann")
    async with asyncio.timeout(1):
        assert await Client(limit, "ann", LAST).receive() == LAST
        assert await Client(limit, "ann", LEFT).receive() == LEFT


async def test_a_form_cancelled_while_it_waits_takes_no_turn() -> None:
    limit = FairLimit(1)
    holder, waiter = Client(limit, "ann", BLOCK), Client(limit, "ann", BLOCK)
    await holder.receive()
    waiting = asyncio.ensure_future(waiter.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    waiter.turn.release()
    assert not limit.is_free("ann")
    holder.turn.release()
    assert limit.is_free("ann")
