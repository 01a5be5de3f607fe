"""Changes to uvicorn's cycles of request and response: how they end.

Invariant: each change uses only what the `RequestResponseCycle` of uvicorn 0.54 (`httptools_impl.py`) reads.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = [
    "BROKEN_OFF",
    "CancelOnDisconnect",
    "end_by_closing",
    "end_if_refused",
    "expects_100_continue",
    "restore_send",
]

BROKEN_OFF: Final = "broken_off"
"""The key of a request's state that is true if its response was aborted because memory was short."""

_SAFE: Final = frozenset({"GET", "HEAD"})


class CancelOnDisconnect:
    """An app whose call for one request is cancelled if its client disconnects before the response has started. A
    response that the app has aborted keeps no bytes.

    This applies to GET and HEAD, which change nothing: a client that repeats them and disconnects would otherwise keep
    all threads busy with unread responses. It also applies to requests that wait for their refusal. All other requests
    are executed to the end.
    """

    is_refused = False
    """Whether the request only waits for its refusal."""

    def __init__(self, app: Any, cycle: RequestResponseCycle) -> None:  # uvicorn's types of apps are private
        self._app = app
        self._cycle = cycle
        self._task: asyncio.Task[object] | None = None

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        """Call the app."""
        if self._is_cancellable():
            return
        self._task = asyncio.current_task()
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._is_cancellable():
                raise
        finally:
            restore_send(self._cycle)
        if self._cycle.scope["state"].get(BROKEN_OFF):
            self._cycle.transport.abort()  # closing would keep the bytes that the client has not read

    def on_disconnect(self) -> None:
        """Note that the client has left."""
        if self._task is not None and self._is_cancellable():
            self._task.cancel()

    def _is_cancellable(self) -> bool:
        cycle = self._cycle
        is_harmless = self.is_refused or cycle.scope["method"] in _SAFE
        return cycle.disconnected and not cycle.response_started and is_harmless


def expects_100_continue(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a client waits for status 100. Uvicorn itself recognises the expectation only if the header
    contains nothing else, not even a space."""
    expected = b",".join(value for name, value in headers if name == b"expect")
    return b"100-continue" in [token.strip() for token in expected.lower().split(b",")]


def restore_send(*cycles: RequestResponseCycle) -> None:
    """Undo the changes to `send` that the functions below make: these closures and the cycle refer to each other, so
    that only the garbage collector could free them."""
    for cycle in cycles:
        vars(cycle).pop("send", None)


def end_if_refused(cycle: RequestResponseCycle) -> None:
    """Close the connection after a response that is sent instead of status 100: it is unknown whether the client still
    sends the body, and where its next request would start (RFC 9110, section 10.1.1)."""
    send = cycle.send

    async def send_last(message: Any) -> None:  # uvicorn's types of ASGI events are private
        if cycle.waiting_for_100_continue:
            cycle.keep_alive = False
        await send(message)

    cycle.send = send_last  # type: ignore[method-assign]


def end_by_closing(cycle: RequestResponseCycle) -> None:
    """Send responses of unknown length to an HTTP/1.0 client unencoded, and end them by closing the connection.

    HTTP/1.0 has no chunked coding (RFC 9112, section 6.1), but uvicorn 0.54 applies it to every response without
    `Content-Length`, and no setting prevents that. `chunked_encoding` and `expected_content_length` are what its cycle
    goes by. It looks `send` up when its task starts, which is after this.
    """
    send, is_sized = cycle.send, True

    async def send_plain(message: Any) -> None:  # as in `end_if_refused`
        nonlocal is_sized
        if message["type"] == "http.response.start":
            # Uvicorn adds `Connection: close`. LangServe's streams send `keep-alive`, which would contradict it.
            headers = [header for header in message.get("headers", ()) if header[0].lower() != b"connection"]
            message = {**message, "headers": headers}
            is_sized = any(name.lower() == b"content-length" for name, _ in headers)
            cycle.chunked_encoding = None if is_sized else False
        elif not is_sized:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_plain  # type: ignore[method-assign]
