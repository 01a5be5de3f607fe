"""A stream that pauses between reads, while the event loop is late, is complete, however it ends."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
import uvloop
from aiohttp.client_proto import ResponseHandler
from langchain_core.messages import HumanMessage

from chains import OpenAIBackend, ReplyCall, Upstream
from chains.blocks import Blocks
from chains.read_batching import LoopLag
from tests.chains.conftest import FAST, Connect, certified, trust
from tests.faults.hostile import HostileUpstream, Wire, chunk, head
from tests.upstream import Reply, ScriptedUpstream
from wire.errors import RunError


class FixedLag(LoopLag):
    """The lag of a loop that is always late, so that each pause takes this many seconds."""

    pause_s = 0.1


WORDS = [f"w{n} " for n in range(12)]


def count_arrivals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that collects the bytes of each arrival from upstreams."""
    found, receive = [], ResponseHandler.data_received

    def counted(protocol: ResponseHandler, data: bytes) -> None:
        found.extend([len(data)] if data else [])  # empty if the library only checks for more
        receive(protocol, data)

    monkeypatch.setattr(ResponseHandler, "data_received", counted)
    return found


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_a_late_loop_gets_a_complete_answer_in_fewer_pieces(
    secure: bool,
    up: ScriptedUpstream,
    secure_up: tuple[ScriptedUpstream, trustme.CA],
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if secure:
        up, authority = secure_up
        trust(authority, tmp_path, monkeypatch)
    arrivals = count_arrivals(monkeypatch)
    words = [f"w{n} " for n in range(60)]
    up.default = lambda _: Reply(chunks=words, delay_s=0.005)
    upstream = await connect(up.url)
    call = ReplyCall(model="m", messages=[HumanMessage("Hello")], together=True)
    pieces, received = [], []
    for loop_lag in (LoopLag(), FixedLag()):
        upstream.loop_lag = loop_lag
        arrivals.clear()
        answer = [chunk.content async for chunk in OpenAIBackend(upstream).stream(call)]
        assert "".join("".join(piece) for piece in answer) == "".join(words)
        assert loop_lag.streams == 0
        pieces.append(len(answer))
        received.append(len(arrivals))
    assert pieces[1] < pieces[0] / 2
    if not secure:
        assert received[1] < received[0] / 2  # data that arrives during a pause is not read from the system


async def test_a_stream_that_breaks_in_a_pause_keeps_what_arrived(up: ScriptedUpstream, connect: Connect) -> None:
    up.default = lambda _: Reply(chunks=[f"w{n} " for n in range(60)], delay_s=0.002, cut_after=40)
    upstream = await connect(up.url)
    upstream.loop_lag = FixedLag()
    call = ReplyCall(model="m", messages=[HumanMessage("Hello")], together=True)
    texts: list[str] = []
    with pytest.raises(RunError, match="closed the connection in the middle"):
        async for chunk in OpenAIBackend(upstream).stream(call):
            texts += chunk.content
    assert "".join(texts) == "".join(f"w{n} " for n in range(39))  # the first frame has only the role


async def test_leaving_a_pausing_stream_closes_its_connection_immediately(
    up: ScriptedUpstream, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused, held = asyncio.Event(), Blocks.held

    @contextmanager
    def noted(blocks: Blocks) -> Iterator[None]:
        with held(blocks):
            paused.set()
            yield

    monkeypatch.setattr(Blocks, "held", noted)
    up.default = lambda _: Reply(chunks=["w "] * 400, delay_s=0.005)
    upstream = await connect(up.url)
    upstream.loop_lag = FixedLag()
    call = ReplyCall(model="m", messages=[HumanMessage("Hello")], together=True)

    async def listen() -> None:
        async for _ in OpenAIBackend(upstream).stream(call):
            pass

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(5):
        await paused.wait()
    listening.cancel()
    await asyncio.wait((listening,))
    await up.eventually(lambda up: up.closed_early == 1, timeout_s=0.5)
    assert upstream.loop_lag.streams == 0


@pytest.mark.parametrize("reply", [Reply(cut_after=2), Reply(chunks=["a"] * 9, pause_after=3)], ids=["cut", "left"])
async def test_an_ended_or_left_stream_no_longer_counts(reply: Reply, up: ScriptedUpstream, connect: Connect) -> None:
    up.default = lambda _: reply
    upstream = await connect(up.url)
    call = ReplyCall(model="m", messages=[HumanMessage("Hello there, you")], together=True)
    stream = OpenAIBackend(upstream).stream(call)
    try:
        async with asyncio.timeout(5):
            async for _ in stream:
                assert upstream.loop_lag.streams == 1
                if reply.pause_after:
                    break
    except RunError:
        assert reply.cut_after
    await stream.aclose()
    assert upstream.loop_lag.streams == 0


# --- ends -------------------------------------------------------------------------------------------------------------


async def answer_and_end(wire: Wire) -> None:
    """Send a valid answer, and close the connection immediately, without TLS's close alert."""
    await wire.send(head(), *map(chunk, WORDS), every_s=0.004)
    await wire.send(chunk(finish="stop"), b"data: [DONE]\n\n")
    await wire.end()


async def answer_and_break_the_framing(wire: Wire) -> None:
    first, *others = (b"%x\r\n%s\r\n" % (len(part), part) for part in map(chunk, WORDS))
    await wire.send(head("text/event-stream", "Transfer-Encoding: chunked"), first)
    await asyncio.sleep(0.03)
    await wire.send(b"".join(others) + b"no number\r\n")
    await wire.hang()


@pytest.fixture(scope="module", params=["plain", "tls"])
def hostile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileUpstream]:
    context = None
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "tls":
            context, authority = certified("127.0.0.1")
            trust(authority, tmp_path_factory.mktemp("authority"), patch)
        behaviours = {"ends": answer_and_end, "breaks": answer_and_break_the_framing}
        with HostileUpstream(behaviours, ssl_context=context) as up:
            yield up


def ask(url: str, model: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> str:
    """Ask on a loop of this kind that is late; return the text. Raises RunError."""

    async def asking() -> str:
        upstream = Upstream(url, limits=FAST)
        await upstream.open()
        try:
            upstream.loop_lag = FixedLag()
            call = ReplyCall(model=model, messages=[HumanMessage("Hello")], together=True)
            async with asyncio.timeout(5):
                return "".join([word async for piece in OpenAIBackend(upstream).stream(call) for word in piece.content])
        finally:
            await upstream.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(asking())


LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@LOOPS
def test_an_answer_whose_connection_ends_in_a_pause_is_complete(
    hostile: HostileUpstream, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    assert ask(hostile.url, "ends", loop) == "".join(WORDS)


@LOOPS
def test_framing_that_breaks_in_a_pause_is_a_normal_break(
    hostile: HostileUpstream, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with pytest.raises(RunError, match="in the middle of the answer"):
        ask(hostile.url, "breaks", loop)
