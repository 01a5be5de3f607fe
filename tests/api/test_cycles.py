"""Requests whose client leaves before their answer has started."""

import asyncio
import contextlib
from typing import Any

import pytest

from api.cycles import BROKEN_OFF
from tests.api.test_connection import HEAD, POST, serving

BODY = b"content-length: 2\r\n\r\n{}"


class App:
    """Waits for `go` in each request, before or after the start of its answer; records how the requests end."""

    def __init__(self, *, starts: bool = False) -> None:
        self.go = asyncio.Event()
        self.started: list[str] = []
        self.ended: list[str] = []
        self._starts = starts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.started.append(scope["path"])
        try:
            if self._starts:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            await receive()
            await self.go.wait()
            if self._starts:
                await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("complete")

    async def until(self, ended: int) -> None:
        while len(self.ended) < ended:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("sent", "starts", "ends"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", False, "cancelled"),
        (b"GET / HTTP/1.0\r\n\r\n", False, "cancelled"),
        (b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", False, "cancelled"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", True, "complete"),
        (POST + BODY, False, "complete"),
        (POST + BODY, True, "complete"),
        (b"DELETE / HTTP/1.1\r\nhost: a\r\n\r\n", False, "complete"),
    ],
    ids=["get", "http 1.0", "head", "a stream", "post", "a stream of a post", "delete"],
)
@pytest.mark.parametrize("kind", ["closes", "resets"])
async def test_only_unanswered_reads_end_with_their_client(sent: bytes, starts: bool, ends: str, kind: str) -> None:
    app = App(starts=starts)
    async with serving(app) as port, asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        while not app.started:
            await asyncio.sleep(0.01)
        writer.close() if kind == "closes" else writer.transport.abort()
        if ends == "complete":
            await asyncio.sleep(0.1)
            assert app.ended == []
            app.go.set()
        await app.until(1)
        assert app.ended == [ends]


async def test_queued_reads_never_start_after_their_client_has_left() -> None:
    app = App()
    async with serving(app) as port, asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + BODY + (HEAD + b"\r\n") * 3)
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        app.go.set()
        await app.until(1)
        await asyncio.sleep(0.1)
        assert app.started == ["/v1/threads"]


async def test_a_client_that_stays_gets_its_answer_while_others_leave() -> None:
    app = App(starts=True)
    async with serving(app) as port, asyncio.timeout(10):
        stays = await asyncio.open_connection("127.0.0.1", port)
        stays[1].write(HEAD + b"connection: close\r\n\r\n")
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEAD + b"\r\n")
            writer.transport.abort()
        app.go.set()
        assert (await stays[0].read()).startswith(b"HTTP/1.1 200 OK\r\n")
        stays[1].close()


@pytest.mark.parametrize("is_broken_off", [True, False])
async def test_an_interrupted_answer_keeps_no_bytes(is_broken_off: bool) -> None:
    """The request of an answer that ends early for another reason is still read to its end."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000, "more_body": True})
        scope["state"][BROKEN_OFF] = is_broken_off

    async with serving(app) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(HEAD + b"\r\n")
        await asyncio.sleep(0.15)
        got = b""
        with contextlib.suppress(ConnectionError):
            got = await reader.read()
        assert (len(got) > 20_000_000) is not is_broken_off
        writer.close()
