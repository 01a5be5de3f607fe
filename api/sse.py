"""Streams: a run's events as server-sent events, and bytes passed through. Raw ASGI; a batch of events is one send.

Invariants: a client that leaves ends only its own stream. A slow client delays no other. Comments fill silence. An
error that ends a stream is sent in it, nested as the SDKs expect.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeVar

import orjson
from fastapi import Response
from starlette.types import Message, Receive, Scope, Send

from fairness.fair_limits import REQUESTS
from telemetry.context import current_owner
from telemetry.tracebacks import clear_tracebacks
from wire.errors import Problem, UpstreamFailed
from wire.events import Event, LastEvents, encode, total_bytes
from wire.extensions import events_without_extensions
from wire.v1 import as_v1

__all__ = ["ByteStream", "EventStream", "LastBlock", "while_connected"]

T = TypeVar("T")

logger = logging.getLogger("threadhold.api")

KEEP_ALIVE_S: Final = 15.0
_LARGE_BYTES: Final = 256 * 1024
"""Larger batches are encoded in a thread: some events are decoded for that, 9 MB of them in 50 ms."""

_PING: Final = b": keep-alive\n\n"
_DONE: Final = b"event: done\ndata: [DONE]\n\n"


async def while_connected(receive: Receive, work: Coroutine[object, object, T]) -> T | None:
    """Return the result of `work`, or None if the client leaves first; `work` is then cancelled."""
    leaving = asyncio.ensure_future(_disconnected(receive))
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        leaving.cancel()
        working.cancel()  # has no effect on work that is done
        await asyncio.wait((working, leaving))


class LastBlock(bytes):
    """The last block: it and the end of the answer are one write."""


class ByteStream(Response):
    """Passes blocks on as they arrive; `close` is called when the client leaves or the blocks end."""

    def __init__(
        self,
        blocks: AsyncIterator[bytes],
        close: Callable[[], None],
        content_type: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        ping: bytes | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        """`ping`, if given, is sent whenever nothing was sent for `keep_alive_s`."""
        unbuffered = {"cache-control": "no-cache", "x-accel-buffering": "no", "content-type": content_type}
        super().__init__(None, status, {**unbuffered, **(headers or {})})
        # A stream's length is unknown; Response has set the length of its empty body.
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        self._blocks = blocks
        self._close = close
        self._ping = ping
        self._keep_alive_s = keep_alive_s

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the blocks end or the client leaves."""
        try:
            async with _until_disconnect(receive):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                if self._ping is None:
                    await self._relay(send)
                else:
                    async with KeepAliveSend(send, self._ping, self._keep_alive_s) as keep_alive_send:
                        await self._relay(keep_alive_send)
        except UpstreamFailed as error:
            # The connection is closed without the end of the body, which shows the client that bytes are missing.
            logger.warning("a passed-through stream broke off: %s", error.plain)
        finally:
            self._close()

    async def _relay(self, send: Send) -> None:
        async with aclosing(self._blocks) as blocks:  # type: ignore[type-var]
            async for block in blocks:
                last = isinstance(block, LastBlock)
                await send({"type": "http.response.body", "body": block, "more_body": not last})
                if last:
                    return
                del block
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream(ByteStream):
    """Batches of a run's events, then `done`."""

    def __init__(
        self,
        batches: AsyncIterator[list[Event]],
        *,
        v1: bool = False,
        extensions: bool = False,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        """Without `extensions`, only the events and fields of OpenAI's API are sent."""
        blocks = _frames(batches, v1=v1, extensions=extensions)
        super().__init__(blocks, _nothing, "text/event-stream; charset=utf-8", ping=_PING, keep_alive_s=keep_alive_s)


async def _frames(batches: AsyncIterator[list[Event]], *, v1: bool, extensions: bool) -> AsyncIterator[bytes]:
    try:
        async with aclosing(batches) as open_batches:  # type: ignore[type-var]
            async for batch in open_batches:
                if total_bytes(batch) > _LARGE_BYTES:
                    frames = await REQUESTS.run(current_owner(), _encoded, batch, v1, extensions)
                else:
                    frames = _encoded(batch, v1, extensions)
                if isinstance(batch, LastEvents):
                    yield LastBlock(frames + _DONE)
                    return
                del batch
                if frames:  # an empty write would delay the next keep-alive comment
                    yield frames
                del frames  # a large batch is not kept while the next one is waited for
    except Problem as problem:
        body = problem.body()
        clear_tracebacks(problem)
        yield b"event: error\ndata: " + orjson.dumps(body) + b"\n\n"
        return
    yield LastBlock(_DONE)


def _encoded(batch: list[Event], v1: bool, extensions: bool) -> bytes:
    events = batch if extensions else events_without_extensions(batch, v1=v1)
    return b"".join(map(_v1_frame if v1 else Event.frame, events))


def _v1_frame(event: Event) -> bytes:
    return Event(event.number, event.name, encode(as_v1(event.data()))).frame()


@asynccontextmanager
async def _until_disconnect(receive: Receive) -> AsyncIterator[None]:
    """End the block early, wherever it waits, when the client leaves. Costs nothing as long as the client stays."""
    leaving = asyncio.ensure_future(_disconnected(receive))
    inside = True

    def gone(_: "asyncio.Future[None]") -> None:
        if inside:
            scope.reschedule(0)  # in the past, so immediately

    try:
        async with asyncio.timeout(None) as scope:
            leaving.add_done_callback(gone)
            try:
                yield
            finally:
                inside = False
    except TimeoutError:
        if not scope.expired():
            raise
    finally:
        leaving.cancel()
        await asyncio.wait((leaving,))


class KeepAliveSend:
    """A `send` that fills silence with pings: a timer checks periodically whether anything was sent."""

    def __init__(self, send: Send, ping: bytes, keep_alive_s: float) -> None:
        self._send = send
        self._ping = ping
        self._keep_alive_s = keep_alive_s
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._sending = False
        self._pinging: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(keep_alive_s, self._ping_if_silent)

    async def __call__(self, message: Message) -> None:
        """Send a message, and note the time."""
        self._sending = True
        await self._send(message)
        self._sending = False
        self._sent_at = self._loop.time()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._pinging is not None:
            self._pinging.cancel()
            await asyncio.gather(self._pinging, return_exceptions=True)

    def _ping_if_silent(self) -> None:
        due = self._sent_at + self._keep_alive_s
        now = self._loop.time()
        if now >= due:
            due = now + self._keep_alive_s
            if not self._sending and (self._pinging is None or self._pinging.done()):  # else the client is slow
                message = {"type": "http.response.body", "body": self._ping, "more_body": True}
                self._pinging = asyncio.ensure_future(self(message))
        self._timer = self._loop.call_at(due, self._ping_if_silent)


async def _disconnected(receive: Receive) -> None:
    message: Message = {}
    while message.get("type") != "http.disconnect":
        message = await receive()


def _nothing() -> None:
    """Do nothing: a client that stops reading a run's events does not stop the run."""
