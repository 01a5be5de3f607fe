"""An upstream that is broken or malicious at the level of bytes, made of plain sockets without an HTTP library.

    with HostileUpstream(BEHAVIOURS) as up:
        ...  # MODEL_URL=up.url; a request for the model "html" is answered by the behaviour of that name

A behaviour is a coroutine function of a `Wire`. Other models get a valid answer.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

import orjson

__all__ = ["GOOD", "Behaviour", "HostileUpstream", "Wire", "chunk", "head"]

GOOD = "All is well."


def chunk(content: Any = None, finish: str | None = None, **more: Any) -> bytes:
    """Return one server-sent event of a completion."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"object": "chat.completion.chunk", "choices": [choice], **more}) + b"\n\n"


def head(kind: str = "text/event-stream", *more: str, status: str = "200 OK") -> bytes:
    """Return the head of an answer that ends with its connection."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *more]
    return "\r\n".join([*lines, "", ""]).encode()


class Wire:
    """One connection after its request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *blocks: bytes, every_s: float = 0.0) -> None:
        """Write the blocks. Raises ConnectionError when the other side has left."""
        for block in blocks:
            self._writer.write(block)
            await self._writer.drain()
            if self._writer.transport.is_closing():
                raise ConnectionResetError
            await asyncio.sleep(every_s)

    async def hang(self) -> None:
        """Send nothing until the other side leaves."""
        await self._reader.read()

    async def end(self) -> None:
        """Half-close the connection by TCP only; then wait until the other side leaves."""
        self._writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        await self.hang()

    async def good(self) -> None:
        """Send a complete valid answer."""
        await self.send(head(), chunk(GOOD), chunk(finish="stop"), b"data: [DONE]\n\n")


async def list_good(wire: Wire) -> None:
    """Send a valid answer to `/models`."""
    body = b'{"data": [{"id": "good"}]}'
    await wire.send(head("application/json", f"Content-Length: {len(body)}"), body)


Behaviour = Callable[[Wire], Awaitable[None]]


class HostileUpstream:
    """The server, in a thread of its own."""

    def __init__(
        self,
        behaviours: Mapping[str, Behaviour],
        *,
        listing: Behaviour | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare the server. `listing` is the behaviour of `/models`, which lists one model by default."""
        self.url = ""
        self.asked: Counter[str] = Counter()
        """Requests by model."""
        self.open: Counter[str] = Counter()
        """Connections under way by model."""
        self._behaviours = behaviours
        self._ssl = ssl_context
        self._listing = listing or list_good
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="hostile-upstream")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._answer(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=self._ssl)
        self.url = f"{'https' if self._ssl else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            asked = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            wire = Wire(reader, writer)
            if asked.startswith("get"):
                await self._listing(wire)
                return
            length = int(asked.partition("content-length:")[2].split("\r\n")[0])
            model = orjson.loads(await reader.readexactly(length)).get("model")
            self.asked[model] += 1
            self.open[model] += 1
            try:
                await self._behaviours.get(model, Wire.good)(wire)
            finally:
                self.open[model] -= 1
