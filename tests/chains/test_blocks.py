"""Bodies of answers: silence has a limit even if the framing breaks, which aiohttp does not notice."""

import asyncio
import gzip
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from langchain_core.messages import HumanMessage

from chains import CallLimits, OpenAIBackend, ReplyCall, RetryPolicy, Upstream
from chains.blocks import Blocks
from chains.embedding_json import read_embeddings
from telemetry.context import set_current_owner
from tests.chains.conftest import Connect
from tests.faults.hostile import HostileUpstream, Wire, head
from wire.errors import ThreadholdError

HASTY = CallLimits(idle_s=0.2, connect_s=2.0, retry=RetryPolicy(retries=0))
CHUNKED = "Transfer-Encoding: chunked"


async def break_off(wire: Wire) -> None:
    """Send a valid head, and then, in a separate packet, a block with an invalid size."""
    await wire.send(head("application/json", CHUNKED))
    await asyncio.sleep(0.05)
    await wire.send(b"zz\r\n")
    await wire.hang()


async def break_off_a_stream(wire: Wire) -> None:
    await wire.send(head("text/event-stream", CHUNKED), b"9\r\ndata: {}\n\r\n")
    await asyncio.sleep(0.05)
    await wire.send(b"zz\r\n")
    await wire.hang()


async def drip(wire: Wire) -> None:
    """Send a block from time to time, without an end."""
    await wire.send(head("application/json"))
    while True:
        await wire.send(b" ", every_s=0.02)


def compressed(event: bytes) -> Callable[[Wire], Awaitable[None]]:
    """Return an answer that repeats an event up to 40 MB, compressed to a thousandth of that."""
    body = gzip.compress(event * (40_000_000 // len(event)), compresslevel=1)

    async def send(wire: Wire) -> None:
        await wire.send(head("text/event-stream", "Content-Encoding: gzip", f"Content-Length: {len(body)}"), body)

    return send


COMPRESSED = {"blank": compressed(b"\n"), "empty": compressed(b"data: {}\n\n"), "lines": compressed(b"data: x\n")}


@pytest.fixture(scope="module")
def hostile() -> Iterator[HostileUpstream]:
    with HostileUpstream(
        {"whole": break_off, "stream": break_off_a_stream, "drips": drip, **COMPRESSED}, listing=break_off
    ) as up:
        yield up


async def reply(upstream: Upstream) -> None:
    call = ReplyCall(model="whole", messages=[HumanMessage("Well?")])
    async for _ in OpenAIBackend(upstream).stream(call):
        pass


async def embed(upstream: Upstream) -> None:
    await upstream.embed("whole", ["text"], read_embeddings)


async def pass_whole(upstream: Upstream) -> None:
    await upstream.pass_through({"model": "whole", "messages": []})


async def pass_stream(upstream: Upstream) -> None:
    response = await upstream.pass_through({"model": "stream", "messages": [], "stream": True})
    *_, last = [block async for block in response.blocks()]
    raise ThreadholdError(last.decode())


async def list_models(upstream: Upstream) -> None:
    await upstream.models()


@pytest.mark.parametrize("ask", [reply, embed, pass_whole, pass_stream, list_models], ids=lambda ask: ask.__name__)
async def test_silence_after_a_broken_block_is_limited(
    hostile: HostileUpstream, connect: Connect, ask: Callable[[Upstream], Awaitable[Any]]
) -> None:
    upstream = await connect(hostile.url, limits=HASTY)
    async with asyncio.timeout(3):
        with pytest.raises(ThreadholdError, match=r"was silent for 0\.2 s"):
            await ask(upstream)
    assert upstream.outcomes["silent",] >= 1


@pytest.mark.parametrize("ask", [reply, pass_whole, pass_stream], ids=lambda ask: ask.__name__)
async def test_a_lost_connection_after_a_broken_block_is_noticed(
    hostile: HostileUpstream, connect: Connect, ask: Callable[[Upstream], Awaitable[Any]]
) -> None:
    upstream = await connect(hostile.url, limits=replace(HASTY, idle_s=60.0))
    async with asyncio.timeout(5):
        with pytest.raises(ThreadholdError, match="in the middle of the answer"):
            await ask(upstream)
    assert upstream.outcomes["broke_off",] == 1


async def test_slow_vectors_have_a_time_limit(hostile: HostileUpstream, connect: Connect) -> None:
    upstream = await connect(hostile.url, limits=HASTY)
    started = time.monotonic()
    async with asyncio.timeout(3):
        with pytest.raises(ThreadholdError, match=r"did not send its vectors within 0\.2 s"):
            await upstream.embed("drips", ["text"], read_embeddings)
    assert time.monotonic() - started > HASTY.idle_s
    assert upstream.outcomes["silent",] == 1


@pytest.mark.parametrize("model", COMPRESSED)
async def test_a_compressed_answer_does_not_delay_other_tasks(
    hostile: HostileUpstream, connect: Connect, model: str
) -> None:
    upstream = await connect(hostile.url, limits=CallLimits(retry=RetryPolicy(retries=0)))
    call = ReplyCall(model=model, messages=[HumanMessage("Well?")])

    async def answer() -> None:
        async for _ in OpenAIBackend(upstream).stream(call):
            pass

    answering = asyncio.create_task(answer())
    longest = 0.0
    while not answering.done():
        started = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - started)
    with pytest.raises(ThreadholdError):
        await answering
    assert longest < 0.5, "processor time of this thread, which the machine's other work does not increase"


class Buffered:
    """A response whose body is already in memory and never ends."""

    connection = None

    def __init__(self) -> None:
        self.content = self

    async def read(self, size: int) -> bytes:
        return b"x" * size


async def test_blocks_of_many_streams_take_turns_by_owner() -> None:
    """Each block takes milliseconds of work on the event loop."""
    loop, iteration, order = asyncio.get_running_loop(), 0, []

    def count() -> None:
        nonlocal iteration
        iteration += 1
        ticking = loop.call_soon(count)
        if len(order) == 51:
            ticking.cancel()

    async def read(owner: str) -> None:
        set_current_owner(owner)
        blocks = Blocks(cast("aiohttp.ClientResponse", Buffered()), idle_s=5)
        try:
            assert len(await blocks.next()) == 65_536
            order.append((owner, iteration))
        finally:
            blocks.close()

    count()
    async with asyncio.TaskGroup() as group:
        for owner in [*["ann"] * 50, "bob"]:
            group.create_task(read(owner))
    assert max(Counter(number for _, number in order).values()) <= 2
    assert "bob" in [owner for owner, _ in order[:4]]


class Reading:
    """A transport that records whether it is read."""

    def __init__(self) -> None:
        self.reads = True

    def is_reading(self) -> bool:
        return self.reads

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> None:
        """Return None: the connection is not encrypted."""


async def test_a_stream_that_waits_for_its_turn_is_read_in_larger_blocks() -> None:
    """Reading each event that arrives meanwhile would cost as much as the work that it waits for."""

    class Connected(Buffered):
        def __init__(self) -> None:
            super().__init__()
            self.transport = Reading()
            self.connection = SimpleNamespace(transport=self.transport, protocol=None)

    answers = [Connected() for _ in range(4)]
    streams = [Blocks(cast("aiohttp.ClientResponse", answer), idle_s=5) for answer in answers]
    reads = [asyncio.create_task(stream.next()) for stream in streams]
    seen: set[int] = set()
    while not all(read.done() for read in reads):
        await asyncio.sleep(0)
        waiting = {number for number, read in enumerate(reads) if not read.done()}
        assert all(answers[number].transport.reads for number in range(4) if number not in waiting)
        seen |= {number for number in waiting if not answers[number].transport.reads}
    assert seen
    for stream in streams:
        stream.close()
