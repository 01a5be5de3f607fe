"""The load, in a process of its own: `python -m bench.load PLAN`, a JSON plan in, JSON figures out.

Law: every comparison alternates between the roads, so that what else the machine does falls on all of them.
"""

import asyncio
import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from bench.calm import SETTLED_S, Calm, watching
from bench.roads import Load, Plan, Timing
from bench.stats import compare, rates, summary

__all__ = ["measure", "resident_mb"]

_BACKLOG_S = 0.3
"""For so long a crowd may suffer from a moment in which the machine was slow."""


async def first_token_alone(load: Load, plan: Plan, calm: Calm) -> dict[str, Any]:
    """One client, one answer after the other, the three roads in turns."""
    await load.say(tokens=20, delay_s=0.002)
    direct, bare, through = [], [], []
    for _ in range(plan.singles):
        direct.append(await load.direct())
        bare.append(await load.bare())
        thread = await load.thread()
        await asyncio.sleep(0.005)  # a person comes back to a server that is at rest
        through.append(await load.through(thread))
    return await _first_tokens(calm, direct, bare, through)


async def first_token_in_a_crowd(load: Load, plan: Plan, calm: Calm) -> dict[str, Any]:
    """Fifty clients that start at odd moments, one answer each a round."""
    await load.say(tokens=20, delay_s=0.02)
    direct, bare, through = [], [], []
    for number in range(plan.crowds):
        threads = [await load.thread() for _ in range(50)]
        direct += await _crowd(50, lambda _: load.direct(), seed=number)
        bare += await _crowd(50, lambda _: load.bare(), seed=number)
        through += await _crowd(50, lambda n, ids=threads: load.through(ids[n]), seed=number)  # type: ignore[misc]
    return await _first_tokens(calm, direct, bare, through, backlog_s=_BACKLOG_S)


async def _first_tokens(
    calm: Calm, direct: Sequence[Timing], bare: Sequence[Timing], through: Sequence[Timing], *, backlog_s: float = 0.0
) -> dict[str, Any]:
    """Compare the answers for which the machine kept its pace (all, where it never did), and beside it all of them.
    It must have kept it for `backlog_s` before, where work may have piled up."""
    await asyncio.sleep(SETTLED_S)
    roads = (direct, bare, through)
    always = _beside_bare(*([one.first for one in timings] for timings in roads))
    steady = []
    for timings in roads:
        held = calm.steady([(one.sent - backlog_s, one.sent + one.first) for one in timings])
        steady.append([one.first for one, calmly in zip(timings, held, strict=True) if calmly])
    told = _beside_bare(*steady) if all(steady) else always
    return {**told, "always": always, "steady": len(steady[-1]) / len(through)}


def _beside_bare(direct: Sequence[float], bare: Sequence[float], through: Sequence[float]) -> dict[str, Any]:
    return {**compare(direct, through), "bare": compare(direct, bare)}


async def tokens_per_second(load: Load, plan: Plan, *, streams: int, tokens: int) -> dict[str, Any]:
    """A model without delay: how many tokens get through, by each road."""
    await load.say(tokens=tokens, delay_s=0.0)
    found: dict[str, list[float]] = {"direct": [], "bare": [], "facade": [], "through": []}
    meter = _Meter(plan)
    for _ in range(plan.rounds):
        asked = [await load.thread() for _ in range(streams)]
        empty = [await load.thread(asked=False) for _ in range(streams)]
        roads = {
            "direct": (load.direct() for _ in range(streams)),
            "bare": (load.bare() for _ in range(streams)),
            "facade": (load.facade(thread) for thread in empty),
            "through": (load.through(thread) for thread in asked),
        }
        for name, road in roads.items():
            with meter.reading(name, lambda _: streams * tokens):
                found[name].append(streams * tokens / await _took(road))
    facade = statistics.median(found.pop("facade"))
    told = rates(**found)
    return {**told, "facade_per_s": facade, "facade_of_through": facade / told["through_per_s"], "cpu_us": meter.us()}


async def turns_per_second(load: Load, plan: Plan) -> dict[str, Any]:
    """Fifty clients, whole turns (thread, message, run of 20 tokens) against one call each of the other roads."""
    await load.say(tokens=20, delay_s=0.0)
    found: dict[str, list[float]] = {"direct": [], "bare": [], "through": []}
    meter = _Meter(plan)
    for _ in range(plan.rounds):
        for name, road in (("direct", load.direct), ("bare", load.bare), ("through", load.turn)):
            with meter.reading(name, lambda seconds: found[name][-1] * seconds):  # noqa: B023 - called within this round
                found[name].append(await _rate(road, plan.turns_s))
    return {**rates(**found), "cpu_us": meter.us()}


async def create(load: Load, plan: Plan) -> dict[str, Any]:
    """One client makes threads and messages."""
    threads, messages = [], []
    for _ in range(plan.singles):
        start = time.perf_counter()
        thread = await load.thread(asked=False)
        threads.append(time.perf_counter() - start)
        start = time.perf_counter()
        await load.message(thread)
        messages.append(time.perf_counter() - start)
    return {"thread": summary(threads), "message": summary(messages)}


async def long_thread(load: Load, plan: Plan) -> dict[str, Any]:
    """A turn on a thread of ten messages and on a long one, in turns; the model is shown the same twenty."""
    await load.say(tokens=20, delay_s=0.0)
    short, long = await load.thread(), await load.thread()
    for thread, messages in ((short, 10), (long, plan.messages)):
        for _ in range((messages - 1) // 10):
            await asyncio.gather(*(load.message(thread) for _ in range(10)))
    took: dict[str, list[float]] = {short: [], long: []}
    for _ in range(plan.singles):
        for thread in (short, long):
            start = time.perf_counter()
            await load.message(thread)
            await load.through(thread, truncation_strategy={"type": "last_messages", "last_messages": 10})
            took[thread].append(time.perf_counter() - start)
    one, other = summary(took[short]), summary(took[long])
    return {"short": one, "long": other, "messages": plan.messages, "ratio": other["median_ms"] / one["median_ms"]}


async def many_streams(load: Load, plan: Plan) -> dict[str, Any]:
    """Streams that are open at once, a token a second each: the server's memory, and whether all are on time."""
    tokens, delay = 10, 1.0
    threads = [await load.thread() for _ in range(plan.streams)]
    await load.say(tokens=tokens, delay_s=delay)
    expected = (await load.direct()).gap  # the model's own longest silence, as one client hears it
    peak = 0.0
    timings = asyncio.ensure_future(_crowd(plan.streams, lambda n: load.through(threads[n]), seed=1, over_s=delay))
    while not timings.done():
        peak = max(peak, resident_mb(plan.pid))
        await asyncio.sleep(0.2)
    gaps = sorted(timing.gap - expected for timing in await timings)
    return {
        "streams": plan.streams,
        "peak_mb": peak,
        "late_median_ms": statistics.median(gaps) * 1e3,
        "late_worst_ms": gaps[-1] * 1e3,
    }


async def measure(plan: Plan, calm: Calm) -> dict[str, Any]:
    """Everything, in order; the crowd comes after the single client, so that it finds a server at rest."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        load = Load(session, plan)
        idle = resident_mb(plan.pid)
        await load.prepare()
        return {
            "idle_mb": idle,
            "first_token_1": await first_token_alone(load, plan, calm),
            "create": await create(load, plan),
            "first_token_50": await first_token_in_a_crowd(load, plan, calm),
            "tokens_1": await tokens_per_second(load, plan, streams=1, tokens=2000),
            # As long as the answers of the measurement that the aim is from: of shorter ones the start is most of it.
            "tokens_50": await tokens_per_second(load, plan, streams=50, tokens=500),
            "turns_50": await turns_per_second(load, plan),
            "long_thread": await long_thread(load, plan),
            "many_streams": await many_streams(load, plan),
            "slow_share": calm.slow_share(),
        }


def resident_mb(pid: int) -> float:
    """Return what a process keeps in memory, in MB; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else 0.0


class _Meter:
    """Processor time of the process that a road leads through, for each token or turn: what a busy machine changes
    least."""

    def __init__(self, plan: Plan) -> None:
        self._pids = {"bare": plan.bare_pid, "facade": plan.pid, "through": plan.pid}
        self._us: dict[str, list[float]] = {}

    @contextmanager
    def reading(self, road: str, units: Callable[[float], float]) -> Iterator[None]:
        """Measure what is inside, which does so many units in the seconds that it takes."""
        pid, start = self._pids.get(road), time.perf_counter()
        before = 0.0 if pid is None else cpu_s(pid)
        yield
        if pid is not None:
            done = units(time.perf_counter() - start)
            self._us.setdefault(road, []).append((cpu_s(pid) - before) / done * 1e6)

    def us(self) -> dict[str, float]:
        """Return the medians by road, in microseconds."""
        return {road: statistics.median(found) for road, found in self._us.items()}


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, in seconds; 0 where the system does not say."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def _crowd(
    clients: int, work: Callable[[int], Awaitable[Timing]], *, seed: int, over_s: float = 0.6
) -> list[Timing]:
    """Start clients at odd moments of `over_s` seconds."""
    chance = random.Random(seed)
    starts = [chance.uniform(0, over_s) for _ in range(clients)]

    async def client(number: int) -> Timing:
        await asyncio.sleep(starts[number])
        return await work(number)

    return await asyncio.gather(*map(client, range(clients)))


async def _took(work: Iterable[Awaitable[Any]]) -> float:
    start = time.perf_counter()
    await asyncio.gather(*work)
    return time.perf_counter() - start


async def _rate(work: Callable[[], Awaitable[Any]], seconds: float) -> float:
    start = time.perf_counter()
    done = 0

    async def client() -> None:
        nonlocal done
        while time.perf_counter() - start < seconds:
            await work()
            done += 1

    await asyncio.gather(*(client() for _ in range(50)))
    return done / (time.perf_counter() - start)


if __name__ == "__main__":
    with watching() as machine:
        print(json.dumps(uvloop.run(measure(Plan(**json.loads(sys.argv[1])), machine))))
