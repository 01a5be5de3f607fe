"""Measurements of a client; each call returns one number. `bench.rounds` calls these for all clients in turn.

Each function states the unit of its result. Processor times are those of the process that answers the client.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from bench.clients import Answer, Client, ModelScript, ServerClient
from tests.process import processor_s

__all__ = ["cancel", "fill_thread", "first_token", "first_tokens", "lateness", "long_answers", "long_thread", "turns"]

_TOKENS: Final = 20
"""Length of the answer in a whole turn."""

_REST_S: Final = 0.005
"""The pause between preparing a thread and the request for an answer: a single user's server is idle then."""

_SETTLE_S: Final = 0.05
"""The wait after the last answer, so that work that a server does after it counts."""

_APART_S: Final = 0.012
"""The average interval between concurrent clients, which start at random moments."""

_GROUP: Final = 10
"""Concurrent requests of a preparation."""


T = TypeVar("T")


async def turns(client: Client, model: ModelScript, *, clients: int, turns_each: int) -> float:
    """Run complete turns: thread, message, streamed answer of 20 tokens. Return the processor time of one, in ms."""
    await model.set_answer(tokens=_TOKENS)

    async def run_turns() -> None:
        for _ in range(turns_each):
            await client.answer(await client.prepare())

    used = await _processor_s_of(client, lambda: asyncio.gather(*(run_turns() for _ in range(clients))))
    return used / (clients * turns_each) * 1e3


async def long_answers(client: Client, model: ModelScript, *, answers: int, tokens: int) -> float:
    """Stream long answers concurrently from a model without delay. Return the processor time of one token, in µs."""
    await model.set_answer(tokens=tokens)
    threads = [await client.prepare() for _ in range(answers)]
    used = await _processor_s_of(client, lambda: asyncio.gather(*map(client.answer, threads)))
    return used / (answers * tokens) * 1e6


async def first_token(client: Client, model: ModelScript) -> float:
    """Ask for one answer. Return the time from the request for it to the first token, in ms."""
    await model.set_answer(tokens=5, delay_s=0.002)
    thread = await client.prepare()
    await asyncio.sleep(_REST_S)
    return (await client.answer(thread)).first_s * 1e3


async def first_tokens(client: Client, model: ModelScript, *, clients: int, seed: int) -> float:
    """Let each client ask for an answer at a random moment. Return the median time to the first token, in ms."""
    await model.set_answer(tokens=_TOKENS, delay_s=0.02)
    answers = await _ask_concurrently(client, clients, opening_s=clients * _APART_S, seed=seed)
    return statistics.median(answer.first_s for answer in answers) * 1e3


async def lateness(client: Client, model: ModelScript, *, streams: int, opening_s: float, open_s: float) -> float:
    """Open streams of 10 tokens a second. Return the median lateness of a token, in ms.

    Lateness is the time from the model's sending a token to its arrival at the client. Only tokens that are sent while
    all streams are open count: for at least `open_s`, after `opening_s`, in which the streams start.
    """
    await model.set_answer(tokens=round(10 * (opening_s + open_s)), delay_s=0.1)
    answers = await _ask_concurrently(client, streams, opening_s=opening_s, seed=1)
    opened_at, ended_at = max(answer.sent_at for answer in answers), min(answer.ended_at for answer in answers)
    arrived = ((at, int(token) / 1e9) for answer in answers for at, token in answer.tokens)
    return statistics.median(at - sent_at for at, sent_at in arrived if opened_at < sent_at < ended_at) * 1e3


async def fill_thread(client: ServerClient, messages: int) -> str:
    """Create a thread with so many messages."""
    thread = await client.prepare()
    await _in_groups(messages - 1, lambda _: client.add_message(thread))
    return thread


async def long_thread(client: ServerClient, model: ModelScript, *, short: str, long: str) -> float:
    """Ask once on each thread. Return how much later the first token arrives on the long one, in ms."""
    await model.set_answer(tokens=5, delay_s=0.002)
    first_s = []
    for thread in (short, long):
        await client.add_message(thread)
        await asyncio.sleep(_REST_S)
        first_s.append((await client.answer(thread)).first_s)
    return (first_s[1] - first_s[0]) * 1e3


async def cancel(client: ServerClient, model: ModelScript) -> float:
    """Cancel a run in mid-stream. Return the time from the request to the close of the model's connection, in ms.

    Raises:
        TimeoutError: The connection was not opened or not closed within 5 s.
    """
    await model.set_answer(tokens=5000, delay_s=0.01)
    closed = len((await model.counters())["closed_at"])
    thread = await client.prepare()
    run = await client.start_run(thread)
    await model.wait_for(lambda counters: counters["open_streams"] > 0)
    await asyncio.sleep(0.1)
    sent_at = time.monotonic()
    await client.cancel_run(thread, run)
    counters = await model.wait_for(lambda counters: len(counters["closed_at"]) > closed)
    return (counters["closed_at"][closed] - sent_at) * 1e3


async def _processor_s_of(client: Client, work: Callable[[], Awaitable[object]]) -> float:
    before = processor_s(client.pid)
    await work()
    await asyncio.sleep(_SETTLE_S)
    return processor_s(client.pid) - before


async def _ask_concurrently(client: Client, clients: int, *, opening_s: float, seed: int) -> list[Answer]:
    """Ask for one answer per client, at random moments within `opening_s`: the same ones for the same seed."""
    threads = await _in_groups(clients, lambda _: client.prepare())
    chance = random.Random(seed)

    async def ask(thread: str, delay_s: float) -> Answer:
        await asyncio.sleep(delay_s)
        return await client.answer(thread)

    return await asyncio.gather(*(ask(thread, chance.uniform(0, opening_s)) for thread in threads))


async def _in_groups(times: int, work: Callable[[int], Awaitable[T]]) -> list[T]:
    done: list[T] = []
    for start in range(0, times, _GROUP):
        done += await asyncio.gather(*map(work, range(start, min(start + _GROUP, times))))
    return done
