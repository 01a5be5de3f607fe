"""Streams: events of a run as server-sent events, and bytes passed through. Raw ASGI, one send for what is there.

The laws: a reader that leaves ends only its own stream; a slow reader holds up nobody else; silence is filled with
comments; what breaks a stream is told in it, nested as the SDKs read it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

from wire.errors import Problem
from wire.events import Event, encode
from wire.v1 import with_file_ids

__all__ = ["ByteStream", "EventStream", "unless_left"]

T = TypeVar("T")

KEEP_ALIVE_S: Final = 15.0
_PING: Final = b": keep-alive\n\n"
_DONE: Final = b"event: done\ndata: [DONE]\n\n"


async def unless_left(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` does, or None when the client leaves first: then the work is cancelled."""
    leaving = asyncio.ensure_future(_left(receive))
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait((working,))


class ByteStream(Response):
    """Passes blocks on as they come; `close` is called when the reader leaves or the blocks end."""

    def __init__(
        self,
        blocks: AsyncIterator[bytes],
        close: Callable[[], None],
        content_type: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        ping: bytes | None = None,
    ) -> None:
        unbuffered = {"cache-control": "no-cache", "x-accel-buffering": "no", "content-type": content_type}
        super().__init__(None, status, {**unbuffered, **(headers or {})})
        # A stream's length is not known; Response has set that of its empty body.
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        self._blocks = blocks
        self._close = close
        self._ping = ping

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the blocks end or the client is gone."""
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._relay(leaving, send)
        finally:
            leaving.cancel()
            self._close()

    async def _relay(self, leaving: "asyncio.Future[None]", send: Send) -> None:
        async with aclosing(self._blocks) as blocks:  # type: ignore[type-var]
            while True:
                coming = asyncio.ensure_future(anext(blocks, None))
                try:
                    while not coming.done():
                        await asyncio.wait((coming, leaving), timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
                        if leaving.done():
                            return
                        if not coming.done() and self._ping is not None:
                            await _send(send, self._ping)
                finally:
                    if not coming.done():
                        coming.cancel()
                        await asyncio.wait((coming,))
                block = coming.result()
                if block is None:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
                await _send(send, block)


class EventStream(ByteStream):
    """Batches of a run's events, then `done`."""

    def __init__(self, batches: AsyncIterator[list[Event]], *, v1: bool = False) -> None:
        super().__init__(_frames(batches, v1=v1), _nothing, "text/event-stream; charset=utf-8", ping=_PING)


async def _frames(batches: AsyncIterator[list[Event]], *, v1: bool) -> AsyncIterator[bytes]:
    try:
        async with aclosing(batches) as open_batches:  # type: ignore[type-var]
            async for batch in open_batches:
                yield b"".join(map(_v1_frame if v1 else Event.frame, batch))
    except Problem as problem:
        yield b"event: error\ndata: " + orjson.dumps(problem.body()) + b"\n\n"
        return
    yield _DONE


def _v1_frame(event: Event) -> bytes:
    return Event(event.number, event.name, encode(with_file_ids(event.data()))).frame()


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _left(receive: Receive) -> None:
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await receive()


def _nothing() -> None:
    """Leaving a run's events stops nothing."""
