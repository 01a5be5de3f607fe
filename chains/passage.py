"""The pass-through: an upstream's answer to a client's own `/chat/completions` request, handed on as it comes.

Status, content type and JSON bodies pass unchanged, errors too (but for our key, should one quote it). Whoever takes a
Passage closes it; closing it, or the iterator, before the end closes the upstream.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import orjson

from chains.blocks import MAX_ANSWER_BYTES, SHORTER_ANSWERS, blocks, whole
from chains.endpoint import Endpoint
from chains.refusals import explain
from chains.transport import Transport, failure
from wire.errors import UpstreamFailed, UpstreamProblem

__all__ = ["Passage", "open_passage"]

_PASSED_HEADERS: Final = ("Retry-After", "retry-after-ms", "x-request-id")


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Passage:
    """An upstream's answer: whole in `body`, or, when that is None, as a stream through `blocks()`."""

    status: int
    content_type: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    _response: aiohttp.ClientResponse | None = None
    _transport: Transport | None = None

    @property
    def closed(self) -> bool:
        """Whether the upstream has no more to do for it."""
        return self._response is None or self._response.closed

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they come. When the upstream breaks off, an error frame is the last."""
        if self._response is None or self._transport is None:
            yield self.body or b""
            return
        endpoint, idle_s = self._transport.endpoint, self._transport.patience.idle_s
        try:
            async with aclosing(blocks(self._response, idle_s=idle_s)) as parts:
                async for block in parts:
                    yield block
        except (aiohttp.ClientError, OSError) as error:
            why = failure(error, endpoint, idle_s=idle_s)
            self._transport.outcomes[(why.kind,)] += 1
            told = {"message": f"the upstream broke off: {why.message}", "type": "upstream_error"}
            yield b"\n\ndata: " + orjson.dumps({"error": {**told, "param": None, "code": None}}) + b"\n\n"
        finally:
            self.close()

    def close(self) -> None:
        """Close the upstream's connection, unless its answer has been read to the end."""
        if self._response is not None:
            self._response.close()


async def open_passage(transport: Transport, body: bytes) -> Passage:
    """Post a body and return the answer, a stream of it unread. Raises UpstreamProblem when none came."""
    try:
        response = await transport.send("POST", transport.endpoint.completions, body)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _unreached(error, transport) from error
    kind = response.headers.get("Content-Type", "application/octet-stream")
    headers = {name: response.headers[name] for name in _PASSED_HEADERS if name in response.headers}
    if 200 <= response.status < 300:
        if "json" not in kind:
            return Passage(response.status, kind, headers, _response=response, _transport=transport)
        return Passage(response.status, kind, headers, await _whole(response, transport))
    if response.status < 400 or "json" not in kind:
        refusal = await transport.refusal(response)
        status = response.status if response.status >= 400 else 502
        raise UpstreamProblem(explain(refusal, **transport.endpoint.told).message, http_status=status)
    said = await transport.error_body(response)
    return Passage(response.status, kind, headers, _without_key(said, transport.endpoint))


async def _whole(response: aiohttp.ClientResponse, transport: Transport) -> bytes:
    try:
        return await whole(
            response,
            transport.endpoint,
            idle_s=transport.patience.idle_s,
            max_bytes=MAX_ANSWER_BYTES,
            outcomes=transport.outcomes,
            advice=SHORTER_ANSWERS,
        )
    except UpstreamFailed as error:
        raise UpstreamProblem(error.message, http_status=504 if error.kind == "silent" else 502) from error


def _without_key(body: bytes, endpoint: Endpoint) -> bytes:
    return endpoint.redact(body.decode(errors="replace")).encode()


def _unreached(error: Exception, transport: Transport) -> UpstreamProblem:
    explained = failure(error, transport.endpoint, idle_s=transport.patience.idle_s)
    return UpstreamProblem(explained.message, http_status=504 if isinstance(error, TimeoutError) else 502)
