"""Streams, called as the web server calls them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.sse import ByteStream, EventStream
from wire.events import Event

PING = b": keep-alive\n\n"


class Client:
    """Receives what is sent; leaves when `left` is set; is slow while `free` is not."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.left = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()
        self.wait_ended = False

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.free.wait()
        if message["type"] == "http.response.body":
            self.bodies += [message["body"]] if message["body"] else []
            self.wait_ended = not message["more_body"]

    async def take(self, stream: ByteStream) -> None:
        await stream({}, self.receive, self.send)


class Blocks:
    """Batches of events that a test releases."""

    def __init__(self) -> None:
        self.closed = False
        self._coming: asyncio.Queue[list[Event] | None] = asyncio.Queue()

    def release(self, *numbers: int, last: bool = False, name: str = "thread.message.delta") -> None:
        self._coming.put_nowait([Event(number, name, b"{}") for number in numbers])
        if last:
            self._coming.put_nowait(None)

    async def __call__(self) -> AsyncIterator[list[Event]]:
        try:
            while (batch := await self._coming.get()) is not None:
                yield batch
        finally:
            self.closed = True


async def test_pings_are_sent_only_when_no_events_are() -> None:
    client, blocks = Client(), Blocks()
    taking = asyncio.create_task(client.take(EventStream(blocks(), keep_alive_s=0.4)))
    for number in range(40):
        blocks.release(number)
        await asyncio.sleep(0.02)
    assert PING not in client.bodies
    await asyncio.sleep(0.7)
    assert set(client.bodies[40:]) == {PING}
    blocks.release(40, last=True)
    await taking
    assert client.wait_ended
    assert client.bodies[-2:] == [Event(40, "thread.message.delta", b"{}").frame(), b"event: done\ndata: [DONE]\n\n"]
    assert len(asyncio.all_tasks()) == 1


async def test_left_out_events_count_as_silence() -> None:
    client, blocks = Client(), Blocks()
    taking = asyncio.create_task(client.take(EventStream(blocks(), keep_alive_s=0.1)))
    for number in range(20):
        blocks.release(number, name="threadhold.reasoning.delta")
        await asyncio.sleep(0.02)
    assert set(client.bodies) == {PING}
    blocks.release(20, last=True)
    await taking
    assert client.bodies[-2] == Event(20, "thread.message.delta", b"{}").frame()


async def test_a_slow_client_is_not_sent_pings_as_well() -> None:
    client, blocks = Client(), Blocks()
    blocks.release(1)
    client.free.clear()
    taking = asyncio.create_task(client.take(EventStream(blocks(), keep_alive_s=0.02)))
    await asyncio.sleep(0.1)
    blocks.release(2, last=True)
    client.free.set()
    await taking
    assert PING not in client.bodies


@pytest.mark.parametrize("slow", [False, True], ids=["while-it-waits", "while-it-sends"])
async def test_a_client_that_leaves_ends_its_stream_and_closes_the_source(slow: bool) -> None:
    client, blocks = Client(), Blocks()
    taking = asyncio.create_task(client.take(EventStream(blocks())))
    blocks.release(1)
    await asyncio.sleep(0.01)
    if slow:
        client.free.clear()
        blocks.release(2)
        await asyncio.sleep(0.01)
    client.left.set()
    await asyncio.wait_for(taking, 0.5)
    assert blocks.closed
    assert not client.wait_ended
    assert len(asyncio.all_tasks()) == 1


async def test_an_error_or_a_cancellation_passes_and_closes_the_source() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise TimeoutError("source failed")

    closed: list[bool] = []
    client = Client()
    with pytest.raises(TimeoutError, match="source failed"):
        await client.take(ByteStream(broken(), lambda: closed.append(True), "text/plain"))
    assert closed == [True]

    taking = asyncio.create_task(client.take(EventStream(Blocks()())))
    await asyncio.sleep(0.01)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking


@pytest.mark.parametrize("leaves", [False, True], ids=["complete", "client leaves"])
async def test_no_task_outlives_its_stream(leaves: bool) -> None:
    client, blocks = Client(), Blocks()
    before = asyncio.all_tasks()
    stream = EventStream(blocks(), keep_alive_s=0.01)
    async with asyncio.timeout(10):
        if leaves:
            client.left.set()
        else:
            blocks.release(1, last=True)
        await client.take(stream)
    assert asyncio.all_tasks() == before
