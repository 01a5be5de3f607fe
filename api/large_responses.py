"""Sends large answers block by block, and limits their total memory.

A client that reads slowly, or not at all, can keep an answer in memory without end. Invariants: answers in transit are
counted by owner, together with request bodies; those without a key are an owner's, too. An answer that exceeds the
limit is replaced by a 503, or aborted if it has started. Each write waits until the client has read most of the
previous one, and bytes are counted until then.
"""

from typing import Final

from starlette.types import Message, Scope, Send

from api.body_memory import BodyMemory
from wire.errors import Unavailable

__all__ = ["BrokenOff", "LargeResponse"]

_BLOCK: Final = 32 * 1024
"""Bytes that are written at a time. uvloop keeps the whole block until its last byte is sent."""

_UNCOUNTED: Final = 16 * 1024
"""Bytes. Bodies and blocks up to this size are not counted. It must exceed no connection's limit for unsent bytes
(see `api.connection`), so that one after the other has to be read."""


class BrokenOff(OSError):
    """A started answer was aborted. It is an OSError, as when the client leaves: the app handles both alike."""


class LargeResponse:
    """One answer in transit. `started` is set once its head is sent; `refusal` is the answer to send instead."""

    def __init__(self, scope: Scope, send: Send, memory: BodyMemory) -> None:
        self._scope = scope
        self._send = send
        self._memory = memory
        self._head: Message | None = None
        """A head that is sent only with its body, because the body can still be refused."""
        self.started = False
        self.refusal: Unavailable | None = None

    async def send(self, message: Message) -> None:
        """Send a head or a block. Raises BrokenOff, also for what follows a refusal."""
        if self.refusal is not None:
            raise BrokenOff(self.refusal.message)
        if message["type"] == "http.response.start":
            self._head = message
            if _length(message) <= _UNCOUNTED:
                await self._send_head()
            return
        body: bytes = message.get("body", b"")
        if len(body) <= _UNCOUNTED:
            await self._send_head()
            await self._send(message)
            return
        owner = self._scope["state"].get("owner", "")
        if not self._take(owner, len(body)):
            return
        try:
            await self._send_head()
            for start in range(0, len(body), _BLOCK):
                await self._send({**message, "body": body[start : start + _BLOCK], "more_body": True})
            await self._send({**message, "body": b""})  # waits for the client, as each block does
        finally:
            self._memory.release(owner, len(body))

    async def _send_head(self) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self.started = True
            await self._send(head)

    def _take(self, owner: str, count: int) -> bool:
        try:
            self._memory.acquire(owner, count)
        except Unavailable as error:
            if self.started:
                raise BrokenOff(error.message) from None
            message, headers = error.message, error.headers
            if self._scope["method"] != "GET":  # the official SDKs would repeat what was carried out
                message = f"The request was carried out, but its answer of {count} bytes was not sent. {message}"
                headers = {**headers, "x-should-retry": "false"}
            self._head, self.refusal = None, Unavailable(message, headers=headers)
            return False
        return True


def _length(head: Message) -> int:
    length = next((value for name, value in head.get("headers", ()) if name == b"content-length"), b"0")
    return int(length)
