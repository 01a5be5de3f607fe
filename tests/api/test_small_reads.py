"""Connections that send a request in many small pieces are read in turns."""

import asyncio
import socket
import time

import httpx2
import pytest

from api.small_reads import SmallReads
from tests.process import ServerProcess

CONNECTIONS = 500
PASSES = 60
MAX_READS = 4 * PASSES
"""Small reads in so many passes of the loop; without turns it is `CONNECTIONS` in each pass."""


class SlowSender:
    """A connection that receives one byte in each pass of the loop in which it reads."""

    def __init__(self, owner: str) -> None:
        self.reads = 0
        self._owner = owner
        self._small = SmallReads(lambda: None)

    def receive(self, size: int = 1) -> None:
        if not self._small.waits:
            self.reads += 1
            self._small.add(size, self._owner)

    def complete_head(self) -> None:
        self._small.reset()

    def close(self) -> None:
        self._small.close()


async def run_passes(connections: list[SlowSender], passes: int) -> int:
    """Let bytes arrive at all connections, and return the number of reads."""
    before = sum(each.reads for each in connections)
    for _ in range(passes):
        for each in connections:
            each.receive()
        await asyncio.sleep(0)
    return sum(each.reads for each in connections) - before


async def test_a_pass_reads_few_small_pieces() -> None:
    connections = [SlowSender("") for _ in range(CONNECTIONS)]
    await run_passes(connections, 20)  # each connection has some small reads without turns
    assert await run_passes(connections, PASSES) <= MAX_READS


async def test_another_owner_s_connection_is_read_soon() -> None:
    connections, own = [SlowSender("") for _ in range(CONNECTIONS)], SlowSender("bob")
    await run_passes(connections, 20)
    await run_passes([own], 20)
    before = own.reads
    await run_passes([*connections, own], PASSES)
    assert own.reads - before >= PASSES / 4


async def test_large_reads_and_complete_heads_take_no_turns() -> None:
    connections = [SlowSender("") for _ in range(CONNECTIONS)]
    await run_passes(connections, 20)
    large, complete = SlowSender("bob"), SlowSender("bob")
    for _ in range(PASSES):
        large.receive(4096)
        complete.receive()
        complete.complete_head()
    assert (large.reads, complete.reads) == (PASSES, PASSES)


async def test_a_closed_connection_takes_no_turn() -> None:
    connections = [SlowSender("") for _ in range(CONNECTIONS)]
    await run_passes(connections, 20)
    last = connections.pop()
    for each in connections:
        each.close()
    await asyncio.sleep(0)
    before = last.reads
    await run_passes([last], 10)
    assert last.reads - before >= 9


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_request_in_single_bytes_is_answered(server: ServerProcess, chunked: bool) -> None:
    body = b'{"metadata": {"text": "' + b"x" * 200 + b'"}}'
    size = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
    head = b"POST /v1/threads HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" + size + b"\r\n\r\n"
    sent = head + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):  # the connection is usable afterwards
            for at in range(len(sent)):
                connection.sendall(sent[at : at + 1])
                if at % 8 == 0:
                    time.sleep(0.001)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer


def test_slow_connections_delay_no_request(server: ServerProcess) -> None:
    with httpx2.Client(base_url=server.url, timeout=20) as client:
        slow = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(200)]
        try:
            for connection in slow:
                connection.sendall(b"GET /v1/threads HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
            took = []
            for _ in range(10):
                for _ in range(5):
                    for connection in slow:
                        connection.sendall(b"a")
                since = time.monotonic()
                assert client.get("/v1/assistants").status_code == 200
                took.append(time.monotonic() - since)
            assert sorted(took)[5] < 1
        finally:
            for connection in slow:
                connection.close()
