"""Decides which run executes next. The number of executing runs is limited; the others are queued.

Nothing here waits or writes. Invariants:
- Owners are scheduled fairly. Of one owner's runs, the oldest goes first.
- A run that needs less can overtake one that needs more. After a few seconds, half of what earlier runs release is
  reserved for the larger run. So it starts eventually, and what was free stays free for others.
- A queued run takes little memory: everything else of it is in the store.
- If the queue is full, a new run is refused with `Retry-After` before anything is stored.
"""

import asyncio
import heapq
import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Final

from graphs.run_memory import UNKNOWN_BYTES
from wire.errors import TooManyRequests

__all__ = ["Admission", "Limits", "QueuedRun"]

_ENDS: Final = 32
"""The number of recent run ends from which the time to the next one is estimated."""

_MAX_RETRY_AFTER_S: Final = 60
"""Longest `Retry-After`: official clients do not wait longer, but retry immediately instead."""

_HEAVY_BYTES: Final = 16 * 1024

_LIGHT_BYTES: Final = 1024 * 1024
"""A run that holds more bytes does not overtake the owner's queued runs."""

_PASSED_S: Final = 5.0
"""How long others can overtake a run that needs more than is free, before it collects what it needs."""

_COLLECTED: Final = 0.5
"""The part of what earlier runs give back that a run collects; the rest stays for others."""

_LARGEST: Final = 8
"""A run counts as at most this part of all. A half of what the others give back is then enough for it."""

_SLACK: Final = 64
"""Entries of runs that have left which an owner's queue can keep for a while."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Maximum numbers of runs; None means no limit. Runs that wait for the client are neither executing nor queued."""

    max_executing: int = 1024
    max_queued: int = 10_000
    max_executing_per_owner: int | None = None
    max_queued_per_owner: int | None = None
    share: float = 1.0
    """The share of `max_executing` (a large run counts as several), `memory_bytes` and `max_queued` that one owner can
    have."""
    memory_bytes: int = 512 * 1024 * 1024
    """Bytes that executing runs can hold in memory. A run larger than its owner's share runs alone."""


@dataclass(slots=True)
class QueuedRun:
    """A run that waits for admission. `left` is set when it leaves the queue for any reason; `weight` is the number of
    runs that it counts as (see `Admission.weight_of`)."""

    run_id: str
    owner: str
    thread_id: str
    created_at: int
    weight: int = 1
    memory: int = 0
    """Bytes that it will hold in memory (see `graphs.run_memory`)."""
    size: int = 0
    """The bytes of its object."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    context: Context = field(default_factory=copy_context)
    """The context of its own request: another task starts it from the queue."""
    number: int = 0
    """The number of its start, once it was admitted (see `Admission.admit`)."""


@dataclass(slots=True)
class _Collecting:
    """What a run that others have overtaken for too long has collected so far."""

    run: QueuedRun
    since: float
    """When it was overtaken first."""
    before: int | None = None
    """The number of starts before it began to collect; None until it does."""
    weight: float = 0.0
    memory: float = 0.0

    def collect(self, number: int, weight: int, memory: int) -> None:
        """Collect from a run with this number, unless it began later: its place was free, and stays free."""
        if self.before is not None and number <= self.before:
            self.weight = min(self.run.weight, self.weight + _COLLECTED * weight)
            self.memory = min(self.run.memory, self.memory + _COLLECTED * memory)


class Admission:
    """Counts executing runs and keeps the queue. `clock` returns monotonic seconds."""

    def __init__(self, limits: Limits, *, counted: str = "runs", clock: Callable[[], float] = time.monotonic) -> None:
        """`counted` is the word for waiting items in refusals."""
        self._limits = limits
        self._counted = counted
        self._clock = clock
        self._total = 0
        self._executing: Counter[str] = Counter()
        self._weights: Counter[str] = Counter()
        self._memory: Counter[str] = Counter()
        self._held = 0
        self._reserved: Counter[str] = Counter()
        self._queued: Counter[str] = Counter()
        self._known: dict[str, QueuedRun] = {}
        self._queues: dict[str, list[tuple[int, int, QueuedRun]]] = {}
        self._order: deque[str] = deque()
        self._numbers = itertools.count()
        self._ends: deque[float] = deque(maxlen=_ENDS)
        self._starts = 0
        self._collecting: _Collecting | None = None
        """The run that others have overtaken for longest, because they need less."""

    def __len__(self) -> int:
        """Return the number of queued runs."""
        return len(self._known)

    # --- executing ------------------------------------------------------------------------------------------------

    def is_free(self, owner: str, weight: int = 1, memory: int = 0) -> bool:
        """Return whether a run of this owner can start now. Queued runs start as soon as the limits allow.

        A run that needs much memory does not overtake the owner's queued runs, which can be waiting for that memory.
        """
        overtakes = memory > _LIGHT_BYTES and self._queued[owner] > 0
        return not overtakes and self._fits(owner, weight, memory) and self._leaves_enough(weight, memory)

    def _leaves_enough(self, weight: int, memory: int) -> bool:
        """Whether a run that starts leaves what the run that others have overtaken for too long has collected.

        Nothing is collected for a run that waits for other runs of its own owner.
        """
        limits, collecting = self._limits, self._collecting
        if collecting is None:
            return True
        waiting = collecting.run
        if not self._has_share(waiting.owner, waiting.weight, waiting.memory):
            self._collecting = None
            return True
        runs = self._total + weight + collecting.weight
        held = self._held + memory + collecting.memory
        return runs <= limits.max_executing and held <= limits.memory_bytes

    def _fits(self, owner: str, weight: int, memory: int) -> bool:
        fits = self._total + weight <= self._limits.max_executing or not self._total
        return fits and self._has_share(owner, weight, memory) and (not memory or self._memory_fits(memory))

    def _has_share(self, owner: str, weight: int, memory: int) -> bool:
        """Whether the run is within the owner's share, regardless of what other owners use."""
        limits = self._limits
        runs = self._weights[owner] + weight <= limits.share * limits.max_executing or not self._weights[owner]
        is_allowed = limits.max_executing_per_owner is None or self._executing[owner] < limits.max_executing_per_owner
        return runs and is_allowed and (not memory or self._has_memory_share(owner, memory))

    def has_memory(self, owner: str, memory: int, held: int = 0) -> bool:
        """Return whether a run of this owner, which already holds `held`, can hold `memory` bytes. A run that is alone
        always can."""
        return self._memory_fits(memory, held) and self._has_memory_share(owner, memory, held)

    def _memory_fits(self, memory: int, held: int = 0) -> bool:
        total = self._held - held
        return total + memory <= self._limits.memory_bytes or not total

    def _has_memory_share(self, owner: str, memory: int, held: int = 0) -> bool:
        own = self._memory[owner] - held
        return own + memory <= self._limits.share * self._limits.memory_bytes or not own

    def weight_of(self, size: int) -> int:
        """Return how many runs a run with an object of `size` bytes counts as: one, and one more for each 16 KB."""
        return min(1 + size // _HEAVY_BYTES, max(1, self._limits.max_executing // _LARGEST))

    @property
    def unread_memory(self) -> int:
        """Bytes counted for a run whose history has not been read. If the limit is low, histories are read one at a
        time."""
        return min(UNKNOWN_BYTES, int(self._limits.share * self._limits.memory_bytes) // 2 + 1)

    def resize(self, owner: str, change: int) -> None:
        """Count more or fewer bytes for an executing run. Afterwards, another run can be admitted."""
        self._held += change
        _take(self._memory, owner, -change)

    @contextmanager
    def count_memory(self, owner: str, memory: int) -> Iterator[None]:
        """Count bytes for a starting run while its history is read."""
        self.resize(owner, memory)
        try:
            yield
        finally:
            self.resize(owner, -memory)

    def admit(self, owner: str, weight: int = 1, memory: int = 0) -> int:
        """Count a run that starts; returns its number, which rises with every start."""
        self.resize(owner, memory)
        self._total += weight
        self._weights[owner] += weight
        self._executing[owner] += 1
        self._starts += 1
        return self._starts

    def release(self, owner: str, weight: int = 1, memory: int = 0, *, number: int = 0) -> None:
        """Stop counting a run that has ended or waits for the client; another run can then be admitted."""
        self.resize(owner, -memory)
        self._total -= weight
        if (collecting := self._collecting) is not None:
            if collecting.before is None and self._clock() - collecting.since >= _PASSED_S:
                collecting.before = self._starts
            collecting.collect(number, weight, memory)
        _take(self._weights, owner, weight)
        _take(self._executing, owner)
        self._ends.append(self._clock())

    # --- queue ----------------------------------------------------------------------------------------------------

    def check(self, owner: str, weight: int = 1, memory: int = 0) -> None:
        """Raise TooManyRequests if a run of this owner can neither start nor be queued."""
        if self.is_free(owner, weight, memory):
            return
        limits = self._limits
        wait_s = self._until_next_s()
        own = self._queued[owner] + self._reserved[owner]
        maximum = limits.max_queued_per_owner
        if maximum is not None and own >= maximum:
            raise _too_many(
                f"{own} of your {self._counted} are already queued; MAX_QUEUED_RUNS_PER_OWNER is {maximum}",
                wait_s,
            )
        has_others = limits.share < 1 and limits.max_queued > 0  # then an owner without a queued run can queue one
        if has_others and own >= max(1, int(limits.share * limits.max_queued)):
            raise _too_many(
                f"{own} of your {self._counted} are already queued, the most for one of several owners; "
                f"MAX_QUEUED_RUNS is {limits.max_queued}",
                wait_s,
            )
        if (own or not has_others) and len(self._known) + self._reserved.total() >= limits.max_queued:
            raise _too_many(
                f"{limits.max_queued} {self._counted} are already queued, the maximum (MAX_QUEUED_RUNS)", wait_s
            )

    @contextmanager
    def reserve_place(self, owner: str, weight: int = 1, memory: int = 0) -> Iterator[None]:
        """Reserve a place in the queue while a run is committed. Raises TooManyRequests."""
        self.check(owner, weight, memory)
        self._reserved[owner] += 1
        try:
            yield
        finally:
            _take(self._reserved, owner)

    def enqueue(self, run: QueuedRun) -> None:
        """Queue a run regardless of the limits, as it is already committed."""
        if run.run_id in self._known:
            return
        self._known[run.run_id] = run
        self._queued[run.owner] += 1
        self._push(run)

    def _push(self, run: QueuedRun) -> None:
        queue = self._queues.get(run.owner)
        if queue is None:
            queue = self._queues[run.owner] = []
            self._order.append(run.owner)
        heapq.heappush(queue, (run.created_at, next(self._numbers), run))

    def requeue(self, run: QueuedRun) -> None:
        """Put back a run that was admitted but could not start."""
        if not run.left.is_set():
            self._push(run)

    def close(self) -> None:
        """Wake everything that waits for a queued run: no more runs are admitted."""
        for run in self._known.values():
            run.left.set()

    def get(self, run_id: str) -> QueuedRun | None:
        """Return the run if it is queued, or admitted but not started yet."""
        return self._known.get(run_id)

    def queued(self) -> list[str]:
        """Return the ids of the queued runs, and of those that were admitted but have not started yet."""
        return list(self._known)

    def remove(self, run_id: str) -> None:
        """Remove a run that has started, ended or been deleted; does nothing if it is not queued."""
        run = self._known.pop(run_id, None)
        if run is not None:
            if self._collecting is not None and run is self._collecting.run:
                self._collecting = None
            _take(self._queued, run.owner)
            run.left.set()
            queue = self._queues.get(run.owner, [])
            if len(queue) > 2 * self._queued[run.owner] + _SLACK:
                queue[:] = [entry for entry in queue if not entry[2].left.is_set()]
                heapq.heapify(queue)

    def admit_next(self) -> QueuedRun | None:
        """Return the next run, counted as executing, or None. It stays queued until `remove`."""
        for _ in range(len(self._order)):
            owner = self._order.popleft()
            queue = self._queues[owner]
            while queue and queue[0][2].left.is_set():
                heapq.heappop(queue)
            if not queue:
                del self._queues[owner]
                continue
            self._order.append(owner)
            run = queue[0][2]
            collects = self._collecting is not None and run is self._collecting.run
            if (collects or self._leaves_enough(run.weight, run.memory)) and self._fits(owner, run.weight, run.memory):
                heapq.heappop(queue)
                run.number = self.admit(owner, run.weight, run.memory)
                return run
            if self._collecting is None and self._has_share(owner, run.weight, run.memory):
                self._collecting = _Collecting(run, self._clock())
        return None

    def _until_next_s(self) -> int:
        """Estimate from the latest ends how long it takes until the next run ends; whole seconds, at least one."""
        if len(self._ends) < 2:
            return 1
        each_s = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(each_s)))


def _take(counts: Counter[str], owner: str, count: int = 1) -> None:
    counts[owner] -= count
    if not counts[owner]:
        del counts[owner]  # otherwise former owners would accumulate


def _too_many(what: str, wait_s: int) -> TooManyRequests:
    return TooManyRequests(
        f"{what}. Try again in {wait_s} s.",
        headers={"Retry-After": str(wait_s)},
    )
