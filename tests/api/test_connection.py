"""Connections below HTTP: invalid bytes, heads without an end, and clients that do not read."""

import asyncio
import contextlib
import gc
import json
import re
import socket
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api import small_reads
from api.connection import Connection
from api.small_reads import SmallReads
from api.transport import READ_BYTES, ShortReads
from tests.process import ServerProcess

HEAD = b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\n"


CONNECTIONS: weakref.WeakSet["ImpatientConnection"] = weakref.WeakSet()


class ImpatientConnection(Connection):
    CHECK_S = 0.2

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        CONNECTIONS.add(self)


BUFFER = memoryview(bytearray(READ_BYTES))


def impatient(*args: Any, **kwargs: Any) -> ShortReads:
    """Make a connection with short limits, as the server makes connections."""
    return ShortReads(ImpatientConnection(*args, **kwargs), BUFFER)


def ask(server: ServerProcess, *parts: bytes) -> tuple[bytes, bytes]:
    """Send bytes and return head and body of the answer, up to the end of the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        got = b""
        with contextlib.suppress(ConnectionError):  # the server can disconnect before it has read everything
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
def test_invalid_http_is_refused_in_openai_s_shape(server: ServerProcess, sent: bytes) -> None:
    head, body = ask(server, sent)
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json" in head
    assert b"x-request-id: req_" in head
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == "invalid_http"


def test_a_head_without_end_is_refused(server: ServerProcess) -> None:
    for endless, limit in ((b"x-a: " + b"a" * 1_000_000, "65536 bytes"), (b"x: y\r\n" * 200_000, "256 headers")):
        head, body = ask(server, HEAD, endless)
        assert head.startswith(b"HTTP/1.1 431 ")
        assert limit in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("line", [b"%c%c:\r\n", b"x-%c%c: y\r\n", b"cookie: %c%c\r\n"], ids=["empty", "names", "same"])
@pytest.mark.parametrize(("count", "status"), [(254, b"200"), (256, b"431"), (5000, b"431")])
def test_the_headers_of_a_request_are_limited(server: ServerProcess, line: bytes, count: int, status: bytes) -> None:
    lines = b"".join(line % (97 + number % 26, 97 + number // 26 % 26) for number in range(count))
    head, _ = ask(server, HEAD + lines + b"connection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)


def test_a_long_head_that_ends_is_accepted(server: ServerProcess) -> None:
    head, _ = ask(server, HEAD + b"x: " + b"a" * 50_000 + b"\r\nconnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")


def test_bytes_after_a_broken_request_do_not_get_into_answers(server: ServerProcess) -> None:
    head, body = ask(server, HEAD + b"\r\n", b"rubbish\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body.startswith(b'{"status":"ok",')


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[int]:
    """Serve an app on connections with short limits; yields the port."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, http=impatient, lifespan="off", log_config=None, timeout_keep_alive=1)
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        serve = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = server.force_exit = True
        await serve


ENDINGS = {
    "nothing": b"",
    "half a head": b"GET / HT",
    "half a body": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nx",
    "a body that is awaited": b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "several requests": HEAD + b"\r\n" + b"POST / HTTP/1.0\r\ncontent-length: 9\r\n\r\nx" + HEAD + b"\r\n",
    "invalid HTTP": b"\x16\x03\x01\r\n\r\n",
}


@pytest.mark.parametrize("sent", ENDINGS.values(), ids=ENDINGS)
async def test_a_closed_connection_needs_no_garbage_collection(sent: bytes) -> None:
    """A client can open and close thousands of connections a second, more than the garbage collector frees in time."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    def come_and_go(port: int) -> None:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(sent)
                time.sleep(0.03)

    def left() -> list[object]:
        return [each for each in gc.get_objects() if isinstance(each, Connection | RequestResponseCycle | SmallReads)]

    async with serving(app) as port:
        gc.collect()
        gc.disable()
        try:
            await asyncio.to_thread(come_and_go, port)
            async with asyncio.timeout(10):
                while left():
                    await asyncio.sleep(0.1)
        finally:
            gc.enable()


async def test_a_connection_that_was_answered_while_it_waited_for_its_turn_is_read_further() -> None:
    """The app answers without taking the body, and no longer takes it when the turn comes."""
    answering, total, sent, piece = asyncio.Event(), 60_000, 0, 12_000

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await answering.wait()
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % total)
        await asyncio.sleep(0.05)
        await small_reads._SCHEDULERS.get().wait_to_start("another", work=2_000)
        (connection,) = (one for one in CONNECTIONS if one.cycle is not None and one.cycle.scope["method"] == "POST")
        while not connection.flow.read_paused:
            writer.write(b"x" * piece)
            sent, piece = sent + piece, 290  # the last one is small, and exceeds what the app can leave
            while connection._body_bytes < sent:  # each piece is one read
                await asyncio.sleep(0)
        assert connection._small_reads.waits
        answering.set()
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
            writer.write(b"x" * (total - sent) + b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        writer.close()


async def test_a_stalled_reader_is_disconnected_and_a_slow_one_is_not() -> None:
    """Each client is sent 64 MB, which must not be kept in memory; the one that reads gets all of it."""
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


async def empty(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer immediately, whatever the body is."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def patient(scope: Any, receive: Any, send: Any) -> None:
    """Answer when the body is complete."""
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
    await empty(scope, receive, send)


POST = b"POST /v1/threads HTTP/1.1\r\nhost: localhost\r\n"
LENGTH = POST + b"content-length: 100000\r\n\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
DRIPS = {
    # name: the app, what is sent first, what is sent repeatedly
    "nothing": (empty, b"", b""),
    "empty lines": (empty, b"", b"\r\n"),
    "half a head": (empty, HEAD, b"x: y\r\n"),
    "a letter of a head at a time": (empty, b"G", b"E"),
    "nothing after an answer": (empty, HEAD + b"\r\n", b""),
    "an empty line after an answer": (empty, HEAD + b"\r\n\r\n", b""),
    "empty lines after an answer": (empty, HEAD + b"\r\n", b"\r\n"),
    "half a head after an answer": (empty, HEAD + b"\r\n" + HEAD, b""),
    "half a head after an answer that goes on": (empty, HEAD + b"\r\n" + HEAD, b"x: y\r\n"),
    "a body after its answer": (empty, LENGTH + b"{", b""),
    "a body after its answer that goes on": (empty, LENGTH, b"{"),
    "chunks after their answer": (empty, CHUNKED, b"1\r\n{\r\n"),
    "a body that stops": (patient, LENGTH + b"{", b""),
    "a body that never begins": (patient, LENGTH, b""),
    "a body by the byte": (patient, LENGTH, b"{"),
    "a chunk that stops": (patient, CHUNKED + b"5\r\n{", b""),
    "chunks by the byte": (patient, CHUNKED, b"1\r\n{\r\n"),
    "an extension of a chunk": (patient, CHUNKED + b"1;a=", b"b"),
    "trailers": (patient, CHUNKED + b"1\r\n{\r\n0\r\n", b"x: y\r\n"),
    "an upgrade": (patient, POST + b"connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 9\r\n\r\n", b""),
    "an upgrade and half a head": (empty, HEAD + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n" + HEAD, b""),
    "half a body behind a request": (patient, HEAD + b"\r\n" + LENGTH + b"{", b""),
    "an expectation": (patient, POST + b"expect: 100-continue\r\ncontent-length: 9\r\n\r\n", b""),
}


async def is_ended(port: int, first: bytes, again: bytes) -> bool:
    """Return whether the server ends a connection within 8 s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        writer.write(first)
        while again:
            await asyncio.sleep(0.03)
            writer.write(again)

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(8):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        return True
    except TimeoutError:
        return False
    finally:
        sending.cancel()
        writer.close()


@pytest.fixture(scope="module")
def ended_drips() -> dict[str, bool]:
    """Return which of `DRIPS` the server ended. They run at the same time: each takes up to a second."""

    async def drip_all() -> list[bool]:
        async with serving(empty) as answering, serving(patient) as waiting:
            ports = {empty: answering, patient: waiting}
            return await asyncio.gather(*(is_ended(ports[app], first, again) for app, first, again in DRIPS.values()))

    return dict(zip(DRIPS, asyncio.run(drip_all()), strict=True))


@pytest.mark.parametrize("drip", DRIPS)
def test_no_connection_outlives_its_limit_without_progress(ended_drips: dict[str, bool], drip: str) -> None:
    assert ended_drips[drip]


async def test_an_incomplete_request_is_answered_with_408() -> None:
    for app, started, status in ((empty, HEAD, b"408"), (patient, LENGTH + b"{", b"408"), (patient, LENGTH, b"408")):
        async with serving(app) as port, asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(started)
            assert (await reader.read()).startswith(b"HTTP/1.1 " + status)
            writer.close()


@pytest.mark.parametrize("frame", [b"content-length: 9000000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n"])
async def test_a_body_has_a_minimum_rate(frame: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check finds progress, but the overall rate is too low."""
    monkeypatch.setattr(ImpatientConnection, "MIN_RATE", 200_000)
    block = b"x" * 1100 if b"length" in frame else b"44c\r\n" + b"x" * 1100 + b"\r\n"
    async with serving(patient) as port, asyncio.timeout(8):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + frame)
        reading = asyncio.create_task(reader.read())
        while not reading.done():
            writer.write(block)
            await asyncio.sleep(0.05)
        assert reading.result().startswith(b"HTTP/1.1 408")
        assert b"200000 bytes per second" in reading.result()
        writer.close()


@pytest.mark.parametrize("kind", ["whole", "stream", "last"])
async def test_an_answer_has_a_minimum_rate(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client reads between any two checks, but the overall rate is too low."""
    monkeypatch.setattr(ImpatientConnection, "MIN_RATE", 400_000)

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"connection", b"close")] if kind == "last" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(4000 if kind == "stream" else 1):
            size = 50_000 if kind == "stream" else 40_000_000
            await send({"type": "http.response.body", "body": b"x" * size, "more_body": kind == "stream"})

    async with serving(app) as port, asyncio.timeout(8):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, HEAD + b"\r\n")
            while not CONNECTIONS:
                await asyncio.sleep(0.01)
            while CONNECTIONS:  # a connection that is lost is freed
                with contextlib.suppress(ConnectionError):
                    await loop.sock_recv(client, 20_000)
                await asyncio.sleep(0.05)


async def test_a_client_that_reads_fast_enough_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImpatientConnection, "MIN_RATE", 100_000)
    size = 8_000_000

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b"x" * size})

    async with serving(app) as port, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(HEAD + b"\r\n")
        got = 0
        while block := await reader.read(100_000):
            got += len(block)
            await asyncio.sleep(0.002)
        assert got > size
        writer.close()


async def test_a_slow_body_and_a_slow_answer_are_waited_for() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await patient(scope, receive, lambda _: asyncio.sleep(0))
        await asyncio.sleep(5 * ImpatientConnection.CHECK_S)
        await empty(scope, receive, send)

    async with serving(app) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"content-length: 20000\r\n\r\n")
        for _ in range(20):
            writer.write(b"x" * 1000)
            await asyncio.sleep(0.05)
        assert (await reader.readline()).startswith(b"HTTP/1.1 204")
        writer.close()


async def test_a_body_that_the_server_does_not_read_is_waited_for() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(5 * ImpatientConnection.CHECK_S)
        await patient(scope, receive, send)

    async with serving(app) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"{}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 204")
        writer.close()


FLOODS = {
    "an extension of a chunk": (b"", CHUNKED + b"1;a=", b"b" * 1024),
    "trailers": (b"", CHUNKED + b"1\r\n{\r\n0\r\n", b"x: " + b"y" * 1019 + b"\r\n"),
    "one trailer": (b"", CHUNKED + b"0\r\nx: ", b"y" * 1024),
    "a trailer after an answer": (b"204", CHUNKED + b"0\r\nx: ", b"y" * 1024),
    "empty lines": (b"", b"", b"\r\n" * 512),
    "empty lines after an answer": (b"204", HEAD + b"\r\n", b"\r\n" * 512),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_bytes_without_progress_are_limited_in_number(flood: str) -> None:
    answered, first, again = FLOODS[flood]
    async with serving(empty if answered else patient) as port, asyncio.timeout(8):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        await asyncio.sleep(0.1)
        writer.write(again * 100)
        got = b""
        with contextlib.suppress(ConnectionError):
            got = await reader.read()
        assert got.startswith(b"HTTP/1.1 " + (answered or b"4"))
        assert got.count(b"HTTP/1.1 ") <= 2
        writer.close()


@pytest.mark.parametrize("app", [empty, patient], ids=["refused", "read"])
@pytest.mark.parametrize(
    ("chunk", "count", "status"),
    [
        (b"1\r\nx\r\n", 1_000, b"204"),
        (b"1\r\nx\r\n", 40_000, b"400"),
        (b"1;a=b\r\nx\r\n", 20_000, b"400"),
        (b"008\r\n12345678\r\n", 20_000, b"400"),
        (b"28\r\n" + b"x" * 40 + b"\r\n", 40_000, b"204"),
        (b"1\r\nx\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n", 3_000, b"204"),
    ],
    ids=["few", "bytes", "extensions", "eight", "forty", "mixed"],
)
async def test_the_chunks_of_a_body_have_a_minimum_length(app: Any, chunk: bytes, count: int, status: bytes) -> None:
    async with serving(app) as port, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(CHUNKED + chunk * count + b"0\r\nx: y\r\n\r\n")
        writer.write(HEAD + b"connection: close\r\n\r\n")
        got = await reader.read()
        statuses = [part[:3] for part in got.split(b"HTTP/1.1 ")[1:]]
        if status == b"204":
            assert statuses == [b"204", b"204"]
        elif app is patient:
            assert statuses == [b"400"]
        else:  # it was answered before that
            assert statuses in ([b"204"], [b"400"])
        writer.close()


@pytest.mark.parametrize(("count", "status"), [(250, b"204"), (300, b"400")])
async def test_trailers_are_limited_in_number(count: int, status: bytes) -> None:
    async with serving(patient) as port, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        chunks = b"1\r\n{\r\n" * 500
        head = POST + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + chunks + b"0\r\n" + b"a:b\r\n" * count + b"\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 " + status)
        writer.close()


BROKEN = {
    "garbage": b"GARBAGE\r\n\r\n",
    "a broken chunk": CHUNKED + b"ZZ\r\n",
    "a good chunk and a broken one": CHUNKED + b"2\r\n{}\r\nZZ\r\n",
    "a long head": b"GET / HTTP/1.1\r\nx: " + b"y" * 80_000,
    "two lengths": POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}",
    "connect": b"CONNECT a.example:443 HTTP/1.1\r\nhost: a\r\n\r\n",
}


@pytest.mark.parametrize("apart", [False, True], ids=["one packet", "packets"])
@pytest.mark.parametrize("before", [1, 2, 300])
@pytest.mark.parametrize("broken", BROKEN)
async def test_a_broken_request_is_answered_after_those_before_it(broken: str, before: int, apart: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05 if before < 3 else 0)
        await patient(scope, receive, send)

    async with serving(app) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((HEAD + b"\r\n") * before)
        if apart:
            await asyncio.sleep(0.02)
        writer.write(BROKEN[broken] + HEAD + b"\r\n")
        got = await reader.read()
        statuses = [part[:3] for part in got.split(b"HTTP/1.1 ")[1:]]
        assert statuses[:-1] == [b"204"] * before
        assert statuses[-1].startswith(b"4")
        writer.close()


@pytest.mark.parametrize("size", [0, 1, 50_000, 3_000_000])
@pytest.mark.parametrize("behind", [HEAD + b"\r\n", POST + b"content-length: 5000000\r\n\r\n"], ids=["get", "post"])
async def test_a_client_that_leaves_is_noticed_behind_unread_bytes(behind: bytes, size: int) -> None:
    left = asyncio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with serving(app) as port, asyncio.timeout(5):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"\r\n")
        await asyncio.sleep(0.05)
        writer.write(behind + b"x" * size)
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await left.wait()


@pytest.mark.parametrize("frame", [b"content-length: 3000000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n2dc6c0\r\n"])
async def test_little_of_an_unread_body_is_kept(frame: bytes) -> None:
    go, maximum = asyncio.Event(), 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await patient(scope, receive, send)

    async with serving(app) as port, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"connection: close\r\n" + frame + b"x" * 3_000_000 + b"\r\n0\r\n\r\n")
        for _ in range(20):
            await asyncio.sleep(0.02)
            maximum = max(maximum, *(len(one.cycle.body) for one in CONNECTIONS if one.cycle is not None))
        go.set()
        assert (await reader.read()).startswith(b"HTTP/1.1 204")
        writer.close()
    assert 0 < maximum <= 3 * READ_BYTES


async def test_bytes_that_wait_for_answers_share_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImpatientConnection, "MAX_HELD_BYTES", 150_000)
    monkeypatch.setattr(ImpatientConnection, "CHECK_S", 10.0)
    answering = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering.wait()
        await empty(scope, receive, send)

    held = POST + b"content-length: 50000\r\n\r\n" + b"x" * 50_000
    async with serving(app) as port, asyncio.timeout(10):
        for _ in range(2):  # the second round shows that the bytes of the first are no longer counted
            clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            for _, writer in clients:
                writer.write((HEAD + b"\r\n") * 2 + held + HEAD + b"connection: close\r\n\r\n")
            await asyncio.sleep(0.2)
            answering.set()
            answers = [(await reader.read()).count(b"HTTP/1.1 204") for reader, _ in clients]
            answering.clear()
            for _, writer in clients:
                writer.close()
            assert sorted(answers) == [2, 2, 4, 4, 4]  # three times 42 KB are held


async def test_pipelined_requests_are_parsed_gradually() -> None:
    started = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal started
        started += 1
        await empty(scope, receive, send)

    request = b"GET / HTTP/1.1\r\n\r\n"
    async with serving(app) as port, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request * 5_000 + HEAD + b"connection: close\r\n\r\n")
        got, maximum = 0, 0
        while block := await reader.read(65536):
            got += block.count(b"HTTP/1.1 204")
            maximum = max(maximum, max((len(one.pipeline) for one in CONNECTIONS), default=0))
        writer.close()
    assert started == 5_001
    assert maximum < 1000


@pytest.mark.parametrize("count", [1, 20_000])
async def test_a_client_that_reads_none_of_its_answers_is_disconnected(count: int) -> None:
    async with serving(empty) as port, asyncio.timeout(8):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write((HEAD + b"\r\n") * count)
        while not CONNECTIONS:
            await asyncio.sleep(0.01)
        while any(one.parser is not None for one in CONNECTIONS):  # which uvicorn unsets when a connection is lost
            await asyncio.sleep(0.05)
        writer.transport.abort()


@pytest.mark.parametrize("expects", [b"", b"expect: 100-continue\r\n"], ids=["plain", "expects"])
@pytest.mark.parametrize("frame", ["length", "chunks"])
async def test_the_answer_to_an_unread_body_arrives(frame: str, expects: bytes) -> None:
    """8 MB more than the server reads before it answers. A connection that expects status 100 ends, others continue."""
    size = 8_000_000
    if frame == "length":
        sent = POST + expects + b"content-length: %d\r\n\r\n" % size + b"x" * size
    else:
        sent = POST + expects + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
    async with serving(empty) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await writer.drain()
        writer.write(HEAD + b"connection: close\r\n\r\n")
        await asyncio.sleep(0.1)
        got = await reader.read()
        assert got.count(b"HTTP/1.1 204") == (1 if expects else 2)
        assert got.count(b"connection: close") == 1
        assert b"100 Continue" not in got
        writer.close()


@pytest.mark.parametrize("part", [b"/v1/%s", b"/v1/files?%s"], ids=["path", "query"])
def test_a_target_has_a_length(server: ServerProcess, part: bytes) -> None:
    for size, status in ((8_000, b"404 Not Found" if part == b"/v1/%s" else b"200 OK"), (8_300, b"414 ")):
        head, body = ask(
            server, b"GET %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n" % (part % (b"x" * size))
        )
        assert head.startswith(b"HTTP/1.1 " + status), head
        if status == b"414 ":
            assert b"8192" in body


@pytest.mark.parametrize("before", [b"nothing", b"assistants"], ids=["refused", "answered"])
@pytest.mark.parametrize("status", [b"414", b"431"])
def test_limits_of_heads_have_their_status_after_other_requests(
    server: ServerProcess, before: bytes, status: bytes
) -> None:
    """The parser continues while the server still handles the previous request."""
    first = b"GET /v1/%s HTTP/1.1\r\nhost: localhost\r\n\r\n" % before
    if status == b"414":
        last = b"GET /%s HTTP/1.1\r\nhost: localhost\r\n\r\n" % (b"x" * 9_000)
    else:
        last = HEAD + b"x: y\r\n" * 300 + b"\r\n"
    for count in (1, 2, 3):
        head, rest = ask(server, first * count + last)
        statuses = re.findall(rb"HTTP/1\.1 (\d+) ", head + rest)
        assert statuses == [b"404" if before == b"nothing" else b"200"] * count + [status]
