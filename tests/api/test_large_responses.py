"""Answers in transit: which bytes are counted, until when, and what happens beyond the limit."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from api.body_memory import MAX_BYTES, BodyMemory
from api.large_responses import BrokenOff, LargeResponse
from tests.api.test_connection import serving
from wire.errors import Unavailable

Sender = Callable[[Any], Awaitable[None]]


def holds(memory: BodyMemory) -> bool:
    """Return whether any bytes are counted, besides the amount that each owner is always allowed."""
    try:
        memory.acquire("other", MAX_BYTES + 1)
    except Unavailable:
        return True
    memory.release("other", MAX_BYTES + 1)
    return False


def scope(method: str = "GET") -> Any:
    return {"type": "http", "method": method, "state": {}}


START = {"type": "http.response.start", "status": 200, "headers": []}


@asynccontextmanager
async def reading_late(port: int) -> AsyncIterator[socket.socket]:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
        yield client


@pytest.mark.parametrize("is_sized", [True, False], ids=["sized", "chunks"])
@pytest.mark.parametrize("size", [20_000, 64 * 1024, 256 * 1024, 300_000])
async def test_a_block_is_counted_until_the_client_reads_it(size: int, is_sized: bool) -> None:
    memory, count = BodyMemory(1, is_shared=False), 16_000_000 // size
    ended = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Sender) -> None:
        answer = LargeResponse(scope(), send, memory)
        headers = [(b"content-length", b"%d" % (size * count))] if is_sized else []
        await answer.send({**START, "headers": headers})
        for number in range(count):
            more = number < count - 1
            await answer.send({"type": "http.response.body", "body": b"x" * size, "more_body": more})
        ended.set()

    loop = asyncio.get_running_loop()
    async with serving(app) as port, asyncio.timeout(20), reading_late(port) as client:
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        await asyncio.sleep(0.1)
        got = 0
        for _ in range(5):
            assert holds(memory)
            assert not ended.is_set()
            got += len(await loop.sock_recv(client, 4096))
        while block := await loop.sock_recv(client, 1_000_000):
            got += len(block)
        await ended.wait()
        assert got >= size * count
        assert not holds(memory)


@pytest.mark.parametrize(("size", "is_counted"), [(0, False), (16 * 1024, False), (16 * 1024 + 1, True)])
async def test_the_smallest_answers_are_not_counted(size: int, is_counted: bool) -> None:
    memory, seen = BodyMemory(1, is_shared=False), []

    async def send(_: Any) -> None:
        seen.append(holds(memory))

    answer = LargeResponse(scope(), send, memory)
    await answer.send(START)
    await answer.send({"type": "http.response.body", "body": b"x" * size})
    assert seen[1] is is_counted
    assert not holds(memory)


@pytest.mark.parametrize("more", [True, False], ids=["of several blocks", "of one block"])
@pytest.mark.parametrize("owner", ["", "ann"])
async def test_an_answer_beyond_the_limit_is_refused_and_ends(owner: str, more: bool) -> None:
    memory, sent = BodyMemory(1, is_shared=True), []
    memory.acquire(owner, MAX_BYTES // 2 - 40_000)

    async def send(message: Any) -> None:
        sent.append(message)

    answer = LargeResponse({**scope(), "state": {"owner": owner}}, send, memory)
    block = {"type": "http.response.body", "body": b"x" * 64 * 1024, "more_body": more}
    await answer.send({**START, "headers": [(b"content-length", b"1500000")]})
    await answer.send(block)
    assert answer.refusal is not None
    with pytest.raises(BrokenOff):  # so that the app reads nothing more for it
        await answer.send(block)
    assert sent == []
    other = LargeResponse({**scope(), "state": {"owner": "bob"}}, send, memory)
    await other.send(START)
    await other.send(block)
    assert other.refusal is None
