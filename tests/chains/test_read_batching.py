"""Streams are read as their tokens arrive, and pause only while the event loop is late."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from chains.read_batching import LoopLag, ReadPauses

LARGE = 64 * 1024


async def took_s(pauses: ReadPauses, newest_bytes: int = 100) -> float:
    """Return how long a stream pauses."""
    started = time.perf_counter()
    await pauses.wait(newest_bytes, nullcontext)
    return time.perf_counter() - started


async def fall_behind(seconds: float, *, times: int = 10) -> None:
    """Block the loop repeatedly for this long."""
    for _ in range(times):
        time.sleep(seconds)  # noqa: ASYNC251 - it blocks on purpose
        await asyncio.sleep(0.001)


async def test_streams_do_not_pause_while_the_loop_keeps_up() -> None:
    loop_lag = LoopLag()
    streams = [ReadPauses(loop_lag) for _ in range(1_000)]
    await asyncio.sleep(0.1)
    pauses = [await took_s(one) for one in streams[:50]]
    assert sorted(pauses)[25] < 0.001
    for one in streams:
        one.close()


async def test_streams_pause_longer_if_the_loop_is_later() -> None:
    pauses = []
    for behind_s in (0.01, 0.05):
        stream = ReadPauses(LoopLag())
        await fall_behind(behind_s)
        pauses.append(await took_s(stream))
        stream.close()
    assert 0.02 < pauses[0] < pauses[1]
    assert pauses[1] < 0.5


async def test_streams_do_not_pause_after_the_loop_has_caught_up() -> None:
    stream = ReadPauses(LoopLag())
    await fall_behind(0.05)
    for _ in range(20):  # other programs can keep this loop late
        await asyncio.sleep(0.5)
        pauses = [await took_s(stream) for _ in range(9)]
        if sorted(pauses)[4] < 0.001:
            break
    assert sorted(pauses)[4] < 0.001
    stream.close()


async def test_a_stream_with_large_reads_does_not_pause() -> None:
    stream = ReadPauses(LoopLag())
    await fall_behind(0.05)
    assert await took_s(stream, LARGE) < 0.01
    stream.close()


async def test_a_paused_stream_is_released_when_cancelled() -> None:
    stream, moments = ReadPauses(LoopLag()), []

    @contextmanager
    def held() -> Iterator[None]:
        moments.append("held")
        try:
            yield
        finally:
            moments.append("let go")

    await fall_behind(0.05)
    paused = asyncio.create_task(stream.wait(100, held))
    await asyncio.sleep(0)
    assert moments == ["held"]
    paused.cancel()
    with pytest.raises(asyncio.CancelledError):
        await paused
    assert moments == ["held", "let go"]
    stream.close()


async def test_the_end_of_the_last_stream_ends_the_measuring() -> None:
    loop_lag = LoopLag()
    one, other = ReadPauses(loop_lag), ReadPauses(loop_lag)
    await fall_behind(0.05)
    assert loop_lag.streams == 2
    for stream in (one, one, other):
        assert loop_lag.lag_s > 0
        stream.close()
    assert loop_lag.streams == 0
    await fall_behind(0.05)
    assert loop_lag.lag_s == 0
