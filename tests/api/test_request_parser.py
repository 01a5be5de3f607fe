"""How requests are read: upgrade offers, expectations and HTTP/1.0, on both event loops."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
import uvloop

from api.connection import Connection
from tests.api.conftest import ApiClient
from tests.process import ServerProcess

BODY = b'{"metadata":{"k":"v"}}'
CHUNKED = b"c\r\n" + BODY[:12] + b"\r\na;x=y\r\n" + BODY[12:] + b"\r\n0\r\ntrailer: t\r\n\r\n"
HOST = b"Host: localhost\r\n"
OFFERS = {
    "java": b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\nUpgrade: h2c\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n",
    "tls": b"Upgrade: TLS/1.0\r\nConnection: upgrade\r\n",
    "unknown": b"Connection: Upgrade\r\nUpgrade: foo\r\n",
    "several": b"Connection: Upgrade\r\nUpgrade: h2c, foo/2, WebSocket\r\n",
    "case": b"CONNECTION: uPGRADE\r\nUPGRADE: H2C\r\n",
    "list": b"Connection: keep-alive, foo ,Upgrade , bar\r\nUpgrade: h2c\r\n",
    "lines": b"Connection: foo\r\nUpgrade: a\r\nConnection: Upgrade\r\nUpgrade: b\r\nConnection: bar\r\n",
    "only named": b"Connection: Upgrade\r\n",
    "only offered": b"Upgrade: h2c\r\n",
    "bytes": b"Connection: Upgrade\r\nUpgrade: h2c\r\nX-Name: \xc3\xa4\xff\r\nX-Empty:\r\n",
}
FRAMES = {"length": (b"Content-Length: 22\r\n", BODY), "chunked": (b"Transfer-Encoding: chunked\r\n", CHUNKED)}
CUTS: dict[str, Callable[[bytes, bytes], list[bytes]]] = {
    "at once": lambda head, body: [head + body],
    "body later": lambda head, body: [head, body],
    "byte by byte": lambda head, body: [bytes([byte]) for byte in head + body],
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what was read; under `/stream` in two blocks of unknown length, as LangServe's streams do."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    names = sorted({name.decode() for name, _ in scope["headers"]})
    read = json.dumps(
        {"method": scope["method"], "path": scope["path"], "body": body.decode(), "names": names}
    ).encode()
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Connection", b"keep-alive")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        return
    status, length = (204, b"0") if scope["path"] == "/empty" else (200, str(len(read)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": b"" if status == 204 else read})


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server on one of the two event loops."""
    server = uvicorn.Server(uvicorn.Config(app, http=Connection, lifespan="off", log_config=None))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))

        def serve() -> None:
            with asyncio.Runner(loop_factory=request.param) as runner:
                runner.run(server.serve(sockets=[listening]))

        thread = threading.Thread(target=serve)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(10)


class Client:
    """A connection that sends bytes and reads answers with a length."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = self.socket.makefile("rb")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._read.close()
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def head(self) -> bytes:
        lines = []
        while (line := self._read.readline()) not in (b"\r\n", b""):
            lines.append(line)
        return b"".join(lines)

    def answer(self) -> Any:
        """Return the next answer's JSON."""
        head = self.head().lower()
        assert head.startswith(b"http/1.1 200"), head
        return json.loads(self._read.read(int(head.partition(b"content-length: ")[2].split()[0])))

    def rest(self) -> bytes:
        """Return everything until the server closes."""
        return self._read.read()


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("offer", OFFERS)
def test_an_upgrade_offer_leaves_the_body_unchanged(port: int, offer: str, frame: str, cut: str) -> None:
    framing, body = FRAMES[frame]
    head = b"POST /a?b=c HTTP/1.1\r\n" + HOST + OFFERS[offer] + framing + b"\r\n"
    with Client(port) as client:
        for _ in range(2):  # the connection continues as usual
            client.send(*CUTS[cut](head, body))
            read = client.answer()
            assert (read["method"], read["path"], read["body"]) == ("POST", "/a", BODY.decode())


def test_requests_in_one_packet_are_each_read_completely(port: int) -> None:
    framing, chunks = FRAMES["chunked"]
    upgrade = OFFERS["java"]
    sent = (
        b"GET /1 HTTP/1.1\r\n" + HOST + upgrade + b"\r\n"
        b"POST /2 HTTP/1.1\r\n" + HOST + upgrade + b"Content-Length: 22\r\n\r\n" + BODY + b"GET /3 HTTP/1.1\r\n" + HOST
        + b"\r\nPOST /4 HTTP/1.1\r\n" + HOST + framing + OFFERS["websocket"] + b"\r\n" + chunks
    )  # fmt: skip
    with Client(port) as client:
        client.send(sent)
        got = [client.answer() for _ in range(4)]
    assert [read["path"] for read in got] == ["/1", "/2", "/3", "/4"]
    assert [read["body"] for read in got] == ["", BODY.decode(), "", BODY.decode()]


def test_very_many_upgrades_in_one_packet_are_answered(port: int) -> None:
    with Client(port) as client:
        client.send(b"GET /many HTTP/1.1\r\nConnection:Upgrade\r\nUpgrade:x\r\n\r\n" * 1200)
        assert {client.answer()["path"] for _ in range(1200)} == {"/many"}


def test_a_body_after_an_upgrade_is_never_a_request(port: int) -> None:
    inner = b"GET /inner HTTP/1.1\r\n" + HOST + b"\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(inner)
    with Client(port) as client:
        client.send(b"POST /outer HTTP/1.1\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n" + HOST + length, inner)
        assert client.answer()["body"] == inner.decode()
        assert client.rest() == b""


def test_the_app_does_not_see_the_upgrade_offer(port: int) -> None:
    with Client(port) as client:
        client.send(b"GET / HTTP/1.1\r\nX-Kept: 1\r\n" + HOST + OFFERS["lines"] + b"\r\n")
        assert client.answer()["names"] == ["connection", "host", "x-kept"]


@pytest.mark.parametrize("target", [b"a.example:443", b"/", b"http://a.example/"], ids=["authority", "path", "url"])
def test_connect_is_refused_and_the_connection_closed(port: int, target: bytes) -> None:
    with Client(port) as client:
        client.send(b"CONNECT " + target + b" HTTP/1.1\r\n" + HOST + b"\r\nfollows")
        assert client.rest().startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("offer", [b"", OFFERS["java"]], ids=["plain", "upgrade"])
@pytest.mark.parametrize(
    ("version", "expected", "continues"),
    [
        (b"1.1", b"Expect: 100-continue\r\n", True),
        (b"1.1", b"EXPECT: 100-Continue \r\n", True),
        (b"1.1", b"Expect: foo, 100-continue\r\n", True),
        (b"1.1", b"Expect: foo\r\nExpect: 100-continue\r\n", True),
        (b"1.1", b"Expect: 200-ok\r\n", False),
        (b"1.1", b"Expect:\r\n", False),
        (b"1.0", b"Expect: 100-continue\r\n", False),
    ],
    ids=["usual", "case", "list", "lines", "unknown", "empty", "old"],
)
def test_100_continue_is_sent_if_it_is_expected(
    port: int, version: bytes, expected: bytes, continues: bool, offer: bytes
) -> None:
    with Client(port) as client:
        client.send(b"POST /a HTTP/" + version + b"\r\n" + HOST + offer + expected + b"Content-Length: 22\r\n\r\n")
        if continues:
            assert client.head() == b"HTTP/1.1 100 Continue\r\n"
        client.send(BODY)
        assert client.answer()["body"] == BODY.decode()


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize(
    "offer", [b"", b"Connection: keep-alive\r\n", OFFERS["list"]], ids=["plain", "keep", "upgrade"]
)
def test_http_1_0_streams_are_unchunked_and_end_by_closing(port: int, method: bytes, offer: bytes) -> None:
    with Client(port) as client:
        client.send(method + b" /stream HTTP/1.0\r\n" + offer + b"\r\n")
        head = client.head().lower()
        assert b"transfer-encoding" not in head
        assert [line for line in head.splitlines() if line.startswith(b"connection")] == [b"connection: close"]
        assert client.rest() == (b"data: 1\n\ndata: [DONE]\n\n" if method == b"GET" else b"")


@pytest.mark.parametrize("path", [b"/sized", b"/empty"])
def test_http_1_0_gets_an_answer_with_its_length(port: int, path: bytes) -> None:
    with Client(port) as client:
        client.send(b"POST " + path + b" HTTP/1.0\r\nContent-Length: 22\r\n\r\n" + BODY)
        head = client.head().lower()
        assert head.count(b"content-length: ") == 1
        assert len(client.rest()) == int(head.partition(b"content-length: ")[2].split()[0])


def test_http_1_1_gets_a_stream_in_chunks(port: int) -> None:
    with Client(port) as client:
        client.send(b"GET /stream HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
        assert b"transfer-encoding: chunked" in client.head()
        assert client.rest() == b"9\r\ndata: 1\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def test_an_upload_survives_an_upgrade_offer(server: ServerProcess) -> None:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        + b"x" * 100_000
        + b"\r\n--b--\r\n"
    )
    head = b"POST /v1/files HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\nExpect: 100-continue\r\n"
    with Client(server.port) as client:
        client.send(head + HOST + OFFERS["java"] + b"Content-Length: %d\r\n\r\n" % len(form))
        assert client.head() == b"HTTP/1.1 100 Continue\r\n"
        client.send(form)
        assert client.answer()["bytes"] == 100_000


def test_http_1_0_gets_the_stream_of_a_run(server: ServerProcess, api: ApiClient) -> None:
    body = json.dumps({"assistant_id": api.assistant(), "stream": True}).encode()
    head = b"POST /v1/threads/" + api.thread("Hello").encode() + b"/runs HTTP/1.0\r\nContent-Type: application/json\r\n"
    with Client(server.port) as client:
        client.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert b"transfer-encoding" not in client.head().lower()
        stream = client.rest()
    assert stream.startswith(b"id: 0\nevent: thread.run.created\ndata: {")
    assert stream.endswith(b"event: done\ndata: [DONE]\n\n")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"GET /health HTTP/1.0", b"200"), (b"GET /health HTTP/1.1", b"403")],
    ids=["1.0", "1.1"],
)
def test_only_http_1_0_can_omit_the_host(server: ServerProcess, request_line: bytes, status: bytes) -> None:
    with Client(server.port) as client:
        client.send(request_line + b"\r\n\r\n")
        assert client.head().startswith(b"HTTP/1.1 " + status)
