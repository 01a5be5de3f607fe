"""What is under HTTP: bytes that are none, heads without end, and clients that do not read."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from api.connection import Connection
from tests.process import ServerProcess

HEAD = b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\n"


class Hasty(Connection):
    LOOK_S = 0.2


def ask(server: ServerProcess, *parts: bytes) -> tuple[bytes, bytes]:
    """Send bytes, return head and body of what comes until the server hangs up."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        got = b""
        with contextlib.suppress(ConnectionError):  # it may hang up before it has read everything
            for part in parts:
                connection.sendall(part)
        with contextlib.suppress(ConnectionError):
            while block := connection.recv(65536):
                got += block
    head, _, body = got.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v1/threads HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : localhost\r\n\r\n",
        b"POST /v1/threads HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/threads HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/threads HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/threads HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
        b"GET /v1/threads HTTP/1.1\r\nhost: localhost\r\nx: a\r\n b\r\nc\r\n\r\n",
    ],
    ids=["words", "tls", "version", "nul", "space", "negative", "two lengths", "smuggled", "chunk", "no colon"],
)
def test_what_is_not_http_is_told_so_in_openai_s_shape(server: ServerProcess, sent: bytes) -> None:
    head, body = ask(server, sent)
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json" in head
    assert b"x-request-id: req_" in head
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == "invalid_http"


def test_a_head_without_end_is_refused(server: ServerProcess) -> None:
    for endless in (b"x-a: " + b"a" * 1_000_000, b"x: y\r\n" * 200_000):
        head, body = ask(server, HEAD, endless)
        assert head.startswith(b"HTTP/1.1 431 ")
        assert "65536 bytes" in json.loads(body)["error"]["message"]


def test_a_long_head_that_ends_is_taken(server: ServerProcess) -> None:
    head, _ = ask(server, HEAD + b"x: " + b"a" * 50_000 + b"\r\nconnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")


def test_what_comes_behind_a_broken_request_does_not_get_into_an_answer(server: ServerProcess) -> None:
    head, body = ask(server, HEAD + b"\r\n", b"rubbish\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body.startswith(b'{"status":"ok"}')


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[int]:
    """An app behind connections in a hurry; the port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, http=Hasty, lifespan="off", log_config=None))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        serve = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = server.force_exit = True
        await serve


async def test_a_client_that_takes_nothing_is_let_go_and_one_that_reads_slowly_is_not() -> None:
    """64 MB to each: nothing like that may wait in memory, and one who reads gets all of it."""
    block, count = b"x" * 65_536, 1000
    left: list[bool] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        leaving = asyncio.create_task(receive())
        for _ in range(count):
            await send({"type": "http.response.body", "body": block, "more_body": True})
            if leaving.done():
                break
        left.append(leaving.done())
        leaving.cancel()
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as port:
        idle = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        idle[1].write(HEAD + b"\r\n")
        idle[1].transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            while left != [True]:
                await asyncio.sleep(0.01)
        idle[1].close()
        slow = await asyncio.open_connection("127.0.0.1", port)
        slow[1].write(HEAD + b"connection: close\r\n\r\n")
        got = 0
        for _ in range(50):
            await asyncio.sleep(0.02)
            got += len(await slow[0].readexactly(400_000))
        got += len(await slow[0].read())
        slow[1].close()
    assert left == [True, False]
    assert got > len(block) * count


async def test_a_client_that_does_not_say_what_it_wants_is_let_go() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as port, asyncio.timeout(5):
        for begun, answered in ((b"", b""), (HEAD, b"HTTP/1.1 408 ")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            assert (await reader.read()).startswith(answered)
            writer.close()
