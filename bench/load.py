"""The load, in a process of its own: `python -m bench.load PLAN`, a JSON plan in, JSON figures out.

Law: every comparison alternates direct and through the server, so that what else the machine does falls on both.
Times are seconds inside, milliseconds in the figures.
"""

import asyncio
import json
import random
import re
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import uvloop

_FIRST = re.compile(rb'"(?:content|value)": ?"w')
"""The first token in either stream: every token of the plan starts with a w."""


@dataclass(frozen=True)
class Plan:
    """Where things are and how much to do."""

    direct: str
    server: str
    rounds: int
    singles: int
    turns_s: float


@dataclass(frozen=True)
class Timing:
    """One streamed answer, in seconds from sending the request."""

    first: float
    last: float


class Load:
    """Both roads to the same model."""

    def __init__(self, session: aiohttp.ClientSession, plan: Plan) -> None:
        self._session = session
        self._plan = plan
        self._assistant = ""

    async def prepare(self) -> None:
        """Make the one assistant, and run each road once, so that nothing is measured cold."""
        self._assistant = (await self._post("/assistants", {"model": "bench", "instructions": "Be quick."}))["id"]
        await self.say(tokens=5, delay_s=0.0)
        for _ in range(10):
            await self.direct()
            await self.through(await self.thread())

    async def say(self, *, tokens: int, delay_s: float) -> None:
        """Set what the model answers to everybody from now on."""
        step = {"kind": "reply", "chunks": [f"w{n} " for n in range(tokens)], "delay_s": delay_s}
        root = self._plan.direct.removesuffix("/v1")
        async with self._session.post(f"{root}/script", json={"default": step}) as answer:
            answer.raise_for_status()

    async def thread(self) -> str:
        """Make a thread with one message, as a program does before it runs it."""
        thread: str = (await self._post("/threads", {}))["id"]
        await self.message(thread)
        return thread

    async def message(self, thread: str) -> None:
        """Add the user's message."""
        await self._post(f"/threads/{thread}/messages", {"role": "user", "content": "Count, please."})

    async def direct(self) -> Timing:
        """One streamed completion from the model itself."""
        messages = [{"role": "system", "content": "Be quick."}, {"role": "user", "content": "Count, please."}]
        told = {"model": "bench", "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        return await self._stream(f"{self._plan.direct}/chat/completions", told, b"[DONE]")

    async def through(self, thread: str) -> Timing:
        """One streamed run on a prepared thread."""
        told = {"assistant_id": self._assistant, "stream": True}
        return await self._stream(f"{self._plan.server}/v1/threads/{thread}/runs", told, b"event: thread.run.completed")

    async def turn(self) -> None:
        """A whole turn: thread, message, streamed run."""
        await self.through(await self.thread())

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        async with self._session.post(f"{self._plan.server}/v1{path}", json=body) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def _stream(self, url: str, body: dict[str, Any], end: bytes) -> Timing:
        sent = time.perf_counter()
        first, tail, ended = 0.0, b"", False
        async with self._session.post(url, json=body) as answer:
            answer.raise_for_status()
            async for data in answer.content.iter_any():
                tail = tail[-200:] + data
                if not first and _FIRST.search(tail):
                    first = time.perf_counter() - sent
                ended = ended or end in tail
        if not (first and ended):
            raise RuntimeError(f"{url} did not end well: {tail[-200:]!r}")
        return Timing(first, time.perf_counter() - sent)


async def first_token_alone(load: Load, plan: Plan) -> dict[str, Any]:
    """One client, one answer after the other, the two roads in turns."""
    await load.say(tokens=20, delay_s=0.002)
    direct, through = [], []
    for _ in range(plan.singles):
        direct.append((await load.direct()).first)
        thread = await load.thread()
        await asyncio.sleep(0.005)  # a person comes back to a server that is at rest
        through.append((await load.through(thread)).first)
    return _compare(direct, through)


async def first_token_in_a_crowd(load: Load, plan: Plan) -> dict[str, Any]:
    """Fifty clients that start at odd moments, one answer each a round."""
    await load.say(tokens=20, delay_s=0.02)
    direct, through = [], []
    for number in range(plan.rounds):
        threads = [await load.thread() for _ in range(50)]
        direct += [t.first for t in await _crowd(50, lambda _: load.direct(), seed=number)]
        through += [t.first for t in await _crowd(50, lambda n, ids=threads: load.through(ids[n]), seed=number)]  # type: ignore[misc]
    return _compare(direct, through)


async def tokens_per_second(load: Load, plan: Plan, *, streams: int, tokens: int) -> dict[str, Any]:
    """A model without delay: how many tokens get through."""
    await load.say(tokens=tokens, delay_s=0.0)
    direct, through = [], []
    for _ in range(plan.rounds):
        threads = [await load.thread() for _ in range(streams)]
        direct.append(streams * tokens / await _took(load.direct() for _ in range(streams)))
        through.append(streams * tokens / await _took(load.through(thread) for thread in threads))
    return _rates(direct, through)


async def turns_per_second(load: Load, plan: Plan) -> dict[str, Any]:
    """Fifty clients, whole turns (thread, message, run of 20 tokens) against one direct call each."""
    await load.say(tokens=20, delay_s=0.0)
    direct, through = [], []
    for _ in range(plan.rounds):
        direct.append(await _rate(load.direct, plan.turns_s))
        through.append(await _rate(load.turn, plan.turns_s))
    return _rates(direct, through)


async def create(load: Load, plan: Plan) -> dict[str, Any]:
    """One client makes threads and messages."""
    threads, messages = [], []
    for _ in range(plan.singles):
        start = time.perf_counter()
        thread = (await load._post("/threads", {}))["id"]
        threads.append(time.perf_counter() - start)
        start = time.perf_counter()
        await load.message(thread)
        messages.append(time.perf_counter() - start)
    return {"thread": _summary(threads), "message": _summary(messages)}


async def measure(plan: Plan) -> dict[str, Any]:
    """Everything, in order; the crowd comes after the single client, so that it finds a server at rest."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        load = Load(session, plan)
        await load.prepare()
        return {
            "first_token_1": await first_token_alone(load, plan),
            "create": await create(load, plan),
            "first_token_50": await first_token_in_a_crowd(load, plan),
            "tokens_1": await tokens_per_second(load, plan, streams=1, tokens=2000),
            "tokens_50": await tokens_per_second(load, plan, streams=50, tokens=300),
            "turns_50": await turns_per_second(load, plan),
        }


async def _crowd(clients: int, work: Callable[[int], Awaitable[Timing]], *, seed: int) -> list[Timing]:
    chance = random.Random(seed)
    starts = [chance.uniform(0, 0.6) for _ in range(clients)]

    async def client(number: int) -> Timing:
        await asyncio.sleep(starts[number])
        return await work(number)

    return await asyncio.gather(*map(client, range(clients)))


async def _took(work: Any) -> float:
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


def _summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median_ms": statistics.median(ordered) * 1e3,
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
        "samples": len(ordered),
    }


def _compare(direct: list[float], through: list[float]) -> dict[str, Any]:
    one, other = _summary(direct), _summary(through)
    added = {f"added_{name}": other[name] - one[name] for name in ("median_ms", "p99_ms")}
    return {"direct": one, "through": other, **added}


def _rates(direct: list[float], through: list[float]) -> dict[str, Any]:
    one, other = statistics.median(direct), statistics.median(through)
    return {"direct_per_s": one, "through_per_s": other, "ratio": other / one, "rounds": len(direct)}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(Plan(**json.loads(sys.argv[1]))))))
