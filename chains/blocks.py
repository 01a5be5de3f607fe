"""The body of an upstream's answer, block by block or whole.

Law: no block is waited for longer than the limit of silence, and no answer is read that has no end. aiohttp (3.14) has
a limit of its own, and forgets it, and whoever reads, when the framing of a body breaks after its head.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Final, TypeVar

import aiohttp

from chains.endpoint import Endpoint
from chains.transport import failure
from watch.figures import Counts
from wire.errors import UpstreamFailed

__all__ = ["MAX_ANSWER_BYTES", "SHORTER_ANSWERS", "blocks", "heard", "next_block", "too_long", "whole"]

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024  # as it comes, 300 bytes a token or so: room for 200,000 of them
SHORTER_ANSWERS: Final = "Set MAX_REPLY_TOKENS."
T = TypeVar("T")

_LATE_S: Final = 0.5  # after the limit of silence, which is aiohttp's own to notice


async def next_block(response: aiohttp.ClientResponse, *, idle_s: float) -> bytes:
    """Return the next bytes, none at the end.

    Raises aiohttp.SocketTimeoutError after `idle_s` of silence and a moment, ClientError or OSError at a break.
    """
    try:
        async with asyncio.timeout(idle_s + _LATE_S):
            return await response.content.readany()
    except TimeoutError as error:
        if type(error) is not TimeoutError:
            raise
        raise aiohttp.SocketTimeoutError from error


async def blocks(response: aiohttp.ClientResponse, *, idle_s: float) -> AsyncGenerator[bytes]:
    """Yield the bytes as they come. Raises as `next_block` does."""
    while block := await next_block(response, idle_s=idle_s):
        yield block


async def heard(stream: AsyncIterator[T], *, idle_s: float) -> AsyncGenerator[T]:
    """Yield what another library reads; a limit of its own is one of bytes, which signs of life keep from coming.

    Raises TimeoutError after `idle_s` of silence and a moment, and what the stream raises.
    """
    with suppress(StopAsyncIteration):
        while True:
            async with asyncio.timeout(idle_s + _LATE_S):
                said = await anext(stream)
            yield said


async def whole(
    response: aiohttp.ClientResponse,
    endpoint: Endpoint,
    *,
    idle_s: float,
    max_bytes: int,
    outcomes: Counts,
    advice: str = "See its log.",
) -> bytes:
    """Read an answer to its end, and let its connection go; it is closed where the end did not come.

    Raises UpstreamFailed where it broke off (counted among the outcomes), or is longer than `max_bytes`: then with
    `advice`.
    """
    body = bytearray()
    try:
        async with aclosing(blocks(response, idle_s=idle_s)) as parts:
            async for block in parts:
                body += block
                if len(body) > max_bytes:
                    raise too_long(endpoint.host, max_bytes, advice)
    except (aiohttp.ClientError, OSError) as error:
        told = failure(error, endpoint, idle_s=idle_s)
        outcomes[(told.kind,)] += 1
        raise told from error
    finally:
        response.release() if response.content.at_eof() else response.close()
    return bytes(body)


def too_long(host: str, max_bytes: int, advice: str = SHORTER_ANSWERS) -> UpstreamFailed:
    """Return what an answer fails with that goes on beyond its limit."""
    return UpstreamFailed(f"{host} sent more than {max_bytes >> 20} MiB and did not end its answer. {advice}")
