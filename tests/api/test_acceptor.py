"""The acceptor: any number of waiting clients is accepted soon, also after an error."""

import asyncio
import errno
import socket
from collections.abc import Iterator

import pytest

from api import acceptor
from api.acceptor import Acceptor

uvloop = pytest.importorskip("uvloop")


class Full(socket.socket):
    """A socket that cannot accept while `is_full`, as if the system had no memory for connections."""

    is_full = True

    def accept(self) -> tuple[socket.socket, object]:
        if self.is_full:
            raise OSError(errno.ENOBUFS, "No buffer space")
        return super().accept()


class Greeting(asyncio.Protocol):
    """Sends a greeting to every client and counts the clients."""

    made = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as for every TCP server
        type(self).made += 1
        transport.write(b"hello")
        transport.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with Full(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.bind(("127.0.0.1", 0))
        made.is_full = False
        yield made


def connected(listening: socket.socket, count: int) -> list[socket.socket]:
    return [socket.create_connection(listening.getsockname(), timeout=10) for _ in range(count)]


def answers(clients: list[socket.socket]) -> list[bytes]:
    read = [client.recv(100) for client in clients]
    for client in clients:
        client.close()
    return read


def test_waiting_clients_are_accepted_in_few_turns_of_the_loop(listening: socket.socket) -> None:
    async def serve() -> tuple[int, list[bytes]]:
        Greeting.made = passes = 0
        accepting = Acceptor(listening, Greeting, backlog=200)
        clients = connected(listening, 100)
        while Greeting.made < 100:
            passes += 1
            await asyncio.sleep(0)
        await accepting.close()
        return passes, await asyncio.to_thread(answers, clients)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        passes, read = runner.run(serve())
    assert passes < 20
    assert read == [b"hello"] * 100


def test_clients_that_could_not_be_accepted_are_accepted_later(
    listening: Full, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE_S", 0.05)
    listening.is_full = True

    async def serve() -> list[bytes]:
        accepting = Acceptor(listening, Greeting, backlog=10)
        clients = connected(listening, 3)
        await asyncio.sleep(0.2)
        assert len(caplog.records) < 10
        listening.is_full = False
        read = await asyncio.to_thread(answers, clients)
        await accepting.close()
        return read

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(serve()) == [b"hello"] * 3
    assert "No buffer space" in caplog.text


def test_connections_that_are_being_accepted_are_finished_first(listening: socket.socket) -> None:
    async def serve() -> list[bytes]:
        accepting = Acceptor(listening, Greeting, backlog=10)
        clients = connected(listening, 3)
        while len(asyncio.all_tasks()) == 1:
            await asyncio.sleep(0)
        await accepting.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return await asyncio.to_thread(answers, clients)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(serve()) == [b"hello"] * 3


def test_a_closed_acceptor_accepts_no_connection(listening: socket.socket) -> None:
    async def serve() -> int:
        Greeting.made = 0
        accepting = Acceptor(listening, Greeting, backlog=10)
        await accepting.close()
        (client,) = connected(listening, 1)
        await asyncio.sleep(0.1)
        client.close()
        return Greeting.made

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(serve()) == 0
