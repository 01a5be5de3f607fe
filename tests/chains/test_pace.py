"""How often streams are read: told by a clock that only moves when somebody waits, and once against a real server."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp.client_proto import ResponseHandler
from langchain_core.messages import HumanMessage

from chains import Replies, ReplyCall
from chains.blocks import Blocks
from chains.pace import FREE, Pace, Rests
from tests.chains.conftest import Connect
from tests.upstream import Reply, ScriptedUpstream
from wire.errors import RunError

CROWD = 50


class World:
    """A clock, and a stream that is fed at given moments."""

    def __init__(self, arrivals: Sequence[float]) -> None:
        self.now = 0.0
        self.late = (0.0, 0.0, 0.0)
        """From when to when who sleeps is woken too late, and by how much."""
        self._arrivals = arrivals
        self._read = 0

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        begin, end, by_s = self.late
        if begin <= self.now < end:
            self.now += by_s

    async def reads(self, pace: Pace) -> list[tuple[float, int]]:
        """Read to the end as `ChunkStream` does; returns when, and how many of what was fed."""
        rests, found = Rests(pace), []
        rests._loop = self  # type: ignore[assignment]
        while self._read < len(self._arrivals):
            if self._read:  # the first words have come
                await rest(rests, 300)
            self.now = max(self.now, self._arrivals[self._read])
            fed = sum(moment <= self.now for moment in self._arrivals)
            found.append((self.now, fed - self._read))
            self._read = fed
        rests.close()
        return found


async def rest(rests: Rests, newest_bytes: int) -> None:
    if due := rests.due(newest_bytes):
        await rests.until(due)


def count_arrivals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what will have the bytes of each arrival from upstreams."""
    found, receive = [], ResponseHandler.data_received

    def counted(protocol: ResponseHandler, data: bytes) -> None:
        found.extend([len(data)] if data else [])  # none where the library only looks for more
        receive(protocol, data)

    monkeypatch.setattr(ResponseHandler, "data_received", counted)
    return found


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], World]:
    def make(arrivals: Sequence[float]) -> World:
        made = World(arrivals)
        monkeypatch.setattr(asyncio, "sleep", made.sleep)
        return made

    return make


def pace_of(streams: int) -> Pace:
    """Return a pace of so many streams, the one that is about to begin included."""
    pace = Pace()
    pace.streams = streams - 1
    return pace


async def test_few_streams_are_read_as_they_come(world: Any) -> None:
    arrivals = [n * 0.005 for n in range(1, 40)]
    assert await world(arrivals).reads(pace_of(FREE)) == [(moment, 1) for moment in arrivals]


@pytest.mark.parametrize(
    ("streams", "least_s"), [(FREE + 1, 0.018), (20, 0.04), (CROWD, 0.1), (1000, 0.1)], ids=["9", "20", "50", "1000"]
)
async def test_of_many_streams_each_rests_between_its_reads(world: Any, streams: int, least_s: float) -> None:
    reads = await world([n * 0.005 for n in range(1, 200)]).reads(pace_of(streams))
    moments = [moment for moment, _ in reads]
    gaps = [after - before for before, after in pairwise(moments[1:])]
    assert min(gaps) >= least_s - 1e-9
    assert max(gaps) <= least_s + 0.01 + 1e-9  # the next tick
    assert sum(fed for _, fed in reads) == 199


async def test_where_the_loop_is_behind_reads_are_fewer_and_none_is_put_off_for_long(world: Any) -> None:
    behind = world([n * 0.005 for n in range(1, 800)])  # for four seconds
    behind.late = (1.0, 2.0, 0.005)
    moments = [moment for moment, _ in await behind.reads(pace_of(CROWD))]
    gaps = {before: after - before for before, after in pairwise(moments[1:])}
    assert min(gap for at, gap in gaps.items() if 1.0 < at < 1.7) > 0.15
    assert max(gaps.values()) < 0.2 + 0.02 + 0.01 + 0.005 + 1e-9
    assert max(gap for at, gap in gaps.items() if at > 2.1) <= 0.11 + 1e-9


async def test_the_first_words_never_wait(world: Any) -> None:
    reads = await world([0.5, 0.501, 0.502]).reads(pace_of(CROWD))
    assert reads[0] == (0.5, 1)


async def test_what_comes_together_anyhow_is_read_at_once(world: Any) -> None:
    clock, pace = world([]), pace_of(CROWD)
    rests = Rests(pace)
    rests._loop = clock
    clock.now = 1.0
    await rest(rests, 300)
    await rest(rests, 20_000)
    assert clock.now == 1.0
    await rest(rests, 300)
    assert clock.now >= 1.1


async def test_a_stream_slower_than_the_pace_is_read_as_it_comes(world: Any) -> None:
    arrivals = [n * 0.2 for n in range(1, 30)]
    assert await world(arrivals).reads(pace_of(CROWD)) == [(moment, 1) for moment in arrivals]


async def test_a_stream_that_grows_slow_and_quick_again_is_treated_as_what_it_is(world: Any) -> None:
    quick = [n * 0.01 for n in range(1, 101)]  # to 1.0 s
    slow = [1.0 + n * 0.3 for n in range(1, 11)]  # to 4.0 s
    again = [4.0 + n * 0.01 for n in range(1, 101)]
    reads = await world([*quick, *slow, *again]).reads(pace_of(CROWD))
    assert [moment for moment, _ in reads if 1.1 < moment <= 4.0] == slow
    for begin in (0.0, 4.0):
        assert 8 <= sum(begin < moment <= begin + 1.0 for moment, _ in reads) <= 13  # of a hundred that came


async def test_a_stream_counts_once_and_until_it_is_closed() -> None:
    pace = Pace()
    one, other = Rests(pace), Rests(pace)
    assert pace.streams == 2
    one.close()
    one.close()
    assert pace.streams == 1
    other.close()
    assert pace.streams == 0


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_in_a_crowd_an_answer_comes_in_fewer_pieces_and_whole(
    secure: bool,
    up: ScriptedUpstream,
    secure_up: tuple[ScriptedUpstream, trustme.CA],
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if secure:
        up, authority = secure_up
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    arrivals = count_arrivals(monkeypatch)
    words = [f"w{n} " for n in range(60)]
    up.default = lambda _: Reply(chunks=words, delay_s=0.005)
    upstream = await connect(up.url)
    call = ReplyCall(model="m", messages=[HumanMessage("Hello")], together=True)
    pieces, received = [], []
    for crowd in (0, CROWD):
        upstream.pace.streams = crowd
        arrivals.clear()
        said = [chunk.content async for chunk in Replies(upstream).stream(call)]
        assert "".join("".join(piece) for piece in said) == "".join(words)
        assert upstream.pace.streams == crowd
        pieces.append(len(said))
        received.append(len(arrivals))
    assert pieces[1] < pieces[0] / 2
    assert received[1] < received[0] / 2  # what comes while a stream rests is not even taken from the system


async def test_a_stream_that_breaks_while_it_rests_fails_with_all_that_came(
    up: ScriptedUpstream, connect: Connect
) -> None:
    up.default = lambda _: Reply(chunks=[f"w{n} " for n in range(60)], delay_s=0.002, cut_after=40)
    upstream = await connect(up.url)
    upstream.pace.streams = CROWD
    call = ReplyCall(model="m", messages=[HumanMessage("Hello")], together=True)
    said: list[str] = []
    with pytest.raises(RunError, match="closed the connection in the middle"):
        async for chunk in Replies(upstream).stream(call):
            said += chunk.content
    assert "".join(said) == "".join(f"w{n} " for n in range(39))  # a frame before them says who speaks


async def test_who_leaves_a_stream_that_rests_closes_its_connection_at_once(
    up: ScriptedUpstream, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting, held = asyncio.Event(), Blocks.held

    @contextmanager
    def noted(blocks: Blocks) -> Iterator[None]:
        with held(blocks):
            resting.set()
            yield

    monkeypatch.setattr(Blocks, "held", noted)
    up.default = lambda _: Reply(chunks=["w "] * 400, delay_s=0.005)
    upstream = await connect(up.url)
    upstream.pace.streams = CROWD
    call = ReplyCall(model="m", messages=[HumanMessage("Hello")], together=True)

    async def listen() -> None:
        async for _ in Replies(upstream).stream(call):
            pass

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(5):
        await resting.wait()
    listening.cancel()
    await asyncio.wait((listening,))
    await up.eventually(lambda up: up.closed_early == 1, timeout_s=0.5)
    assert upstream.pace.streams == CROWD


@pytest.mark.parametrize("reply", [Reply(cut_after=2), Reply(chunks=["a"] * 9, pause_after=3)], ids=["cut", "left"])
async def test_a_stream_that_breaks_or_is_left_counts_no_longer(
    reply: Reply, up: ScriptedUpstream, connect: Connect
) -> None:
    up.default = lambda _: reply
    upstream = await connect(up.url)
    call = ReplyCall(model="m", messages=[HumanMessage("Hello there, you")], together=True)
    stream = Replies(upstream).stream(call)
    try:
        async with asyncio.timeout(5):
            async for _ in stream:
                assert upstream.pace.streams == 1
                if reply.pause_after:
                    break
    except RunError:
        assert reply.cut_after
    await stream.aclose()
    assert upstream.pace.streams == 0
