"""Queues commits by owner, and selects the next ones so that owners get equal shares of the writer's time."""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from store.sqlite.transactions import Commit

__all__ = ["CommitQueues"]

_ESTIMATE_S: Final = 0.0001
"""The time that a commit counts until it has run."""


class CommitQueues:
    """Waiting commits; an owner's commits keep their order.

    Each owner has a virtual time: the seconds that the writer has spent on the owner's commits. The owner with the
    smallest one is next (start-time fair queueing). An owner that was idle starts from the virtual time of the owner
    that was served last, so idling gives no claim on time. When nothing waits, all times are forgotten.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Commit]] = {}
        self._times: dict[str, float] = {}
        self._heap: list[tuple[float, int, str]] = []
        """Exactly one entry for each owner with waiting commits; its time can be out of date, but is never too high."""
        self._number = 0
        self._now = 0.0
        """The virtual time of the owner that was served last."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, commit: Commit) -> None:
        """Add a commit after the others of its owner."""
        self._of(commit.owner).append(commit)

    def put_back(self, commits: Sequence[Commit]) -> None:
        """Return commits that were taken but have not run to the front of their owners' queues."""
        for commit in reversed(commits):
            self._of(commit.owner).appendleft(commit)

    def take(self, max_commits: int, max_bytes: int) -> list[Commit]:
        """Remove and return the next commits: at most `max_commits`, and none after `max_bytes` is reached."""
        batch: list[Commit] = []
        size = 0
        while self._heap and len(batch) < max_commits and size < max_bytes:
            begun, _, owner = heapq.heappop(self._heap)
            if begun < self._times[owner]:
                self._push(owner)
                continue
            self._now = begun
            queue = self._waiting[owner]
            commit = queue.popleft()
            self._times[owner] += _ESTIMATE_S
            if queue:
                self._push(owner)
            else:
                del self._waiting[owner]
            batch.append(commit)
            size += commit.counted_bytes
        return batch

    def charge(self, commits: Iterable[Commit]) -> None:
        """Add the time that commits took (`Commit.duration_s`) to their owners' virtual times."""
        for commit in commits:
            self._times[commit.owner] = self._times.get(commit.owner, self._now) + commit.duration_s
        if not self._waiting:  # no owner is waiting
            self._times.clear()

    def _of(self, owner: str) -> deque[Commit]:
        queue = self._waiting.get(owner)
        if queue is None:
            queue = self._waiting[owner] = deque()
            self._times[owner] = max(self._now, self._times.get(owner, self._now))
            self._push(owner)
        return queue

    def _push(self, owner: str) -> None:
        self._number += 1  # owners with the same time take turns
        heapq.heappush(self._heap, (self._times[owner], self._number, owner))
