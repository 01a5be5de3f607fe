"""A stream of the built-in engine ends with the engine's answer, however slowly it is read."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from chains import relay as relaying
from chains.relay import relay
from chains.upstream_response import UpstreamResponse
from wire.errors import UpstreamFailed

BLOCK = b"data: {}\n\n" * 1_000


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Source(UpstreamResponse):
    """A stream of `count` blocks, which can break at its end."""

    count: int = 0
    breaks: bool = False
    events: list[str] = field(default_factory=list)

    async def blocks(self) -> AsyncIterator[bytes]:
        for _ in range(self.count):
            await asyncio.sleep(0)
            yield BLOCK
        if self.breaks:
            raise UpstreamFailed("it broke off")
        self.events.append("ended")

    def close(self) -> None:
        self.events.append("closed")


def source(count: int, *, breaks: bool = False) -> Source:
    return Source(200, "text/event-stream", count=count, breaks=breaks)


async def until(source: Source, event: str) -> None:
    async with asyncio.timeout(5):
        while event not in source.events:
            await asyncio.sleep(0.01)


async def test_the_stream_ends_before_its_slow_reader_has_read_it() -> None:
    stream = source(100)
    blocks = aiter(relay(stream, lambda: True).blocks())
    received = await anext(blocks)
    await until(stream, "closed")
    received += b"".join([block async for block in blocks])
    assert received == BLOCK * 100


async def test_a_broken_stream_raises_after_its_last_bytes() -> None:
    received = b""
    with pytest.raises(UpstreamFailed, match="it broke off"):
        async for block in relay(source(3, breaks=True), lambda: False).blocks():
            received += block
    assert received == BLOCK * 3


async def test_a_reader_who_leaves_closes_the_stream() -> None:
    stream = source(1_000_000)
    blocks = relay(stream, lambda: False).blocks()
    await anext(aiter(blocks))
    await blocks.aclose()  # type: ignore[attr-defined]
    assert stream.events == ["closed", "closed"]


@pytest.mark.parametrize("others_wait", [True, False], ids=["others wait", "no others wait"])
async def test_a_full_buffer_ends_the_stream_only_if_others_wait(
    others_wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "_IDLE_READER_S", 0.05)
    stream = source(1_000)
    blocks = aiter(relay(stream, lambda: others_wait).blocks())
    received = await anext(blocks)
    await asyncio.sleep(0.5)
    received += b"".join([block async for block in blocks])
    assert (b"reader_too_slow" in received) == others_wait
    assert (received == BLOCK * 1_000) != others_wait


async def test_an_answer_without_streaming_is_not_relayed() -> None:
    response = UpstreamResponse(400, "application/json", body=b"{}")
    assert relay(response, lambda: True) is response
