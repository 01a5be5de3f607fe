"""Reads of limited length, with one buffer for all connections."""

import asyncio
import sys

import pytest

from api.transport import READ_BYTES, ShortReads


class Collects(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.longest = 0
        self.wait_ended = False

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.longest = max(self.longest, len(data))

    def eof_received(self) -> None:
        self.wait_ended = True


async def exchange() -> list[Collects]:
    """Send 1 MB over each of ten connections at the same time."""
    made: list[Collects] = []
    buffer = memoryview(bytearray(READ_BYTES))

    def protocol() -> ShortReads:
        made.append(Collects())
        return ShortReads(made[-1], buffer)

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def send(mark: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(100):
            writer.write(b"%04d%02d " % (number, mark) * 1500)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with server, asyncio.timeout(20):
        await asyncio.gather(*(send(mark) for mark in range(10)))
        while not all(each.wait_ended for each in made):
            await asyncio.sleep(0.01)
    return made


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_reads_are_short_and_connections_do_not_mix(loop: str) -> None:
    if loop == "uvloop" and sys.platform != "win32":
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    else:
        runner = asyncio.Runner()
    with runner:
        made = runner.run(exchange())
    whole = {b"".join(b"%04d%02d " % (number, mark) * 1500 for number in range(100)) for mark in range(10)}
    assert {each.data for each in made} == whole
    assert max(each.longest for each in made) <= READ_BYTES
