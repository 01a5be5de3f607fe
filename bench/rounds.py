"""Rounds: in each, every client is measured once, in an order that changes from round to round.

Other load on the machine thus affects all clients, so ratios within one benchmark are valid on a busy machine.
"""

import random
import statistics
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, TypeVar

from bench import measurements
from bench.clients import Client, CompletionsClient, ModelScript, ServerClient, connect
from bench.processes import Checkout, Process, measure_start

__all__ = ["QUICK", "Samples", "Sizes", "alternate", "measure_clients", "measure_starts"]

Samples = dict[str, dict[str, list[float]]]
"""Row of the table (`bench.table.ROWS`) → client → one number per round."""

_WARM_UP_TURNS: Final = 20

T = TypeVar("T")
C = TypeVar("C", bound=Client)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The extent of a benchmark. `scale` multiplies the rounds of every measurement."""

    scale: int = 4
    group: int = 10
    """Answers of a single client whose median is one number, because single answers differ too much."""

    turns: int = 200
    """Turns of a round with twenty clients; a single client makes a fifth of them."""

    clients: int = 50
    """Concurrent clients in the measurement of first tokens."""

    tokens: int = 2000
    """Length of a long answer."""

    streams: tuple[int, int] = (100, 1000)
    """Open streams, for the two rows about lateness."""

    open_s: float = 4.0
    """Time in which all of these streams are open."""

    messages: int = 1000
    """Length of the long thread."""


QUICK: Final = Sizes(scale=1, turns=100, open_s=3.0)


def measure_starts(checkouts: Sequence[Checkout], model: Process, sizes: Sizes) -> Samples:
    """Start the server of each checkout in turn."""
    samples: Samples = {"start": {}, "memory": {}}
    for checkout in alternate("start", checkouts, 2 * sizes.scale):
        healthy_s, memory_mb = measure_start(checkout, model)
        samples["start"].setdefault(checkout.name, []).append(healthy_s)
        samples["memory"].setdefault(checkout.name, []).append(memory_mb)
    return samples


async def measure_clients(servers: Sequence[Process], model: Process, passthrough: Process, sizes: Sizes) -> Samples:
    """Measure running servers, the model called directly, and the pass-through."""
    async with AsyncExitStack() as stack:
        rounds = _Rounds(ModelScript(await stack.enter_async_context(connect()), model.url), sizes)
        runs = [ServerClient(await stack.enter_async_context(connect()), server) for server in servers]
        direct = CompletionsClient(await stack.enter_async_context(connect()), model)
        through = CompletionsClient(await stack.enter_async_context(connect()), passthrough)
        for client in runs:
            await client.create_assistant()
        await rounds.warm_up([direct, through, *runs])
        await rounds.measure_processor_time([through, *runs])
        await rounds.measure_waiting([direct, *runs])
        await rounds.measure_runs(runs)
        await rounds.measure_lateness([direct, *runs])
        return rounds.samples


class _Rounds:
    """The measurements in order, and their results."""

    def __init__(self, script: ModelScript, sizes: Sizes) -> None:
        self.samples: Samples = {}
        self._script = script
        self._sizes = sizes

    async def warm_up(self, clients: Sequence[Client]) -> None:
        """Use everything a few times before it is measured."""
        for client in clients:
            await measurements.turns(client, self._script, clients=1, turns_each=_WARM_UP_TURNS)

    async def measure_processor_time(self, clients: Sequence[Client]) -> None:
        """Measure complete turns, and tokens of long answers."""

        async def alone(client: Client) -> float:
            turns = self._sizes.turns // 5
            return await measurements.turns(client, self._script, clients=1, turns_each=turns)

        async def twenty(client: Client) -> float:
            turns = self._sizes.turns // 20
            return await measurements.turns(client, self._script, clients=20, turns_each=turns)

        async def tokens(client: Client) -> float:
            return await measurements.long_answers(client, self._script, answers=10, tokens=self._sizes.tokens)

        await self._measure("turn_1", clients, 8, alone)
        await self._measure("turn_20", clients, 5, twenty)
        await self._measure("token", clients, 5, tokens)

    async def measure_waiting(self, clients: Sequence[Client]) -> None:
        """Measure the time to the first token."""

        async def alone(client: Client) -> float:
            return await measurements.first_token(client, self._script)

        async def concurrent(client: Client) -> float:
            seed = len(self.samples["first_50"].get(client.name, ()))
            return await measurements.first_tokens(client, self._script, clients=self._sizes.clients, seed=seed)

        await self._measure("first_1", clients, 8, alone, group=self._sizes.group)
        await self._measure("first_50", clients, 5, concurrent)

    async def measure_runs(self, servers: Sequence[ServerClient]) -> None:
        """Measure what only a server has: long threads and cancellation."""
        threads = {}
        for server in servers:
            short = await measurements.fill_thread(server, 1)
            threads[server.name] = short, await measurements.fill_thread(server, self._sizes.messages)

        async def later(server: ServerClient) -> float:
            short, long = threads[server.name]
            return await measurements.long_thread(server, self._script, short=short, long=long)

        async def cancel(server: ServerClient) -> float:
            return await measurements.cancel(server, self._script)

        await self._measure("long_thread", servers, 4, later, group=self._sizes.group)
        await self._measure("cancel", servers, 8, cancel)

    async def measure_lateness(self, clients: Sequence[Client]) -> None:
        """Measure the lateness of tokens in many open streams."""
        for row, rounds, streams in zip(("late_100", "late_1000"), (2, 1), self._sizes.streams, strict=True):

            async def late(client: Client, streams: int = streams) -> float:
                return await measurements.lateness(
                    client, self._script, streams=streams, opening_s=streams / 250, open_s=self._sizes.open_s
                )

            await self._measure(row, clients, rounds, late)

    async def _measure(
        self, row: str, clients: Sequence[C], rounds: int, measure: Callable[[C], Awaitable[float]], *, group: int = 1
    ) -> None:
        """Measure all clients in turn; each number is the median of a `group` of rounds."""
        found = self.samples.setdefault(row, {})
        for client in alternate(row, clients, rounds * self._sizes.scale * group):
            found.setdefault(client.name, []).append(await measure(client))
        for name, each in found.items():
            found[name] = [statistics.median(each[start : start + group]) for start in range(0, len(each), group)]


def alternate(row: str, members: Sequence[T], rounds: int) -> Iterable[T]:
    """Yield all members in every round, in an order that changes from round to round."""
    print(f"measuring {row}", file=sys.stderr)
    for number in range(rounds):
        yield from random.Random(number).sample(members, len(members))
