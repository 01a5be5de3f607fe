"""How often streams are read: told by a clock that only moves when somebody waits."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest

from chains.pace import FREE, Pace, Rests

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
                await rests.rest(300, nullcontext)
            self.now = max(self.now, self._arrivals[self._read])
            fed = sum(moment <= self.now for moment in self._arrivals)
            found.append((self.now, fed - self._read))
            self._read = fed
        rests.close()
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
    await rests.rest(300, nullcontext)
    await rests.rest(20_000, nullcontext)
    assert clock.now == 1.0
    await rests.rest(300, nullcontext)
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
