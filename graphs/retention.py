"""Deletes threads that have not been used for long, with all their contents.

Invariants: a thread with an active or waiting run stays, and so does one that was used just before its deletion. The
transaction that deletes checks both. A clock that jumps ahead does not make threads old immediately. Each thread is
deleted in a commit of its own, so other commits wait only for one deletion.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from store.ports import (
    Delete,
    Processes,
    RequireNewest,
    RequireNoActiveRun,
    Store,
    ThreadActivity,
    ThreadActivityQueries,
)
from store.single_process import single_process
from telemetry.background import restart_on_error
from wire.errors import MissingRow, StaleThread, StoreError, ThreadBusy

__all__ = ["DAY_S", "Pruned", "Retention", "prune"]

logger = logging.getLogger("threadhold.retention")

_PAGE: Final = 200
_IN_A_ROW: Final = 10
_PAUSE_S: Final = 0.02
_EVERY_S: Final = 3600.0
_FIRST_S: Final = 5.0
"""Delay after the start, when the server has other work."""
_JUMP_S: Final = 3600.0
DAY_S: Final = 86_400


@dataclass(slots=True)
class Pruned:
    """How many threads were deleted, and how many stayed because they were in use."""

    threads: int = 0
    kept: int = 0


async def prune(
    store: Store,
    thread_activity: ThreadActivityQueries,
    *,
    before: int,
    pause_s: float = _PAUSE_S,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Pruned:
    """Delete threads of all owners that were last used before `before` (Unix seconds). Raises StoreError.

    Pauses for `pause_s` between groups of deletions; calls `on_progress` with the number of threads examined so far.
    """
    done, looked, after = Pruned(), 0, 0
    while page := await thread_activity.threads(after=after, limit=_PAGE):
        after = page[-1].seq
        old = [each for each in page if each.used_at < before]
        for number, thread in enumerate(old, 1):
            # One at a time: a single transaction for all would make every other commit wait.
            gone = await _delete(store, thread)
            done.threads += gone
            done.kept += not gone
            if not number % _IN_A_ROW:
                await asyncio.sleep(pause_s)
        await store.purge()
        looked += len(page)
        on_progress(looked)
        await asyncio.sleep(pause_s)
    if done.threads:
        await store.commit([], durable=True)
    return done


async def _delete(store: Store, thread: ThreadActivity) -> bool:
    id, owner = thread.thread_id, thread.owner
    still = (RequireNoActiveRun(id, owner), RequireNewest(id, owner, thread.newest_id))
    with suppress(ThreadBusy, StaleThread, MissingRow):
        await store.commit([*still, Delete("thread", id, owner)], durable=False)
        return True
    return False


class Retention:
    """Prunes soon after the start and then every hour while it is entered; never if `days` is 0."""

    def __init__(
        self,
        store: Store,
        thread_activity: ThreadActivityQueries,
        *,
        days: float,
        first_s: float = _FIRST_S,
        every_s: float = _EVERY_S,
        clock: Callable[[], float] = time.time,
        processes: Processes | None = None,
    ) -> None:
        """`processes` are the other processes on the store; None: there are none."""
        self._leadership = (processes or single_process(store)).leadership
        self._store = store
        self._thread_activity = thread_activity
        self._days = days
        self._first_s = first_s
        self._every_s = every_s
        self._clock = clock
        self._tasks = asyncio.TaskGroup()
        self._work: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        if self._days:
            self._work = self._tasks.create_task(restart_on_error(self._prune_forever))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._work is not None:
            self._work.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def _prune_forever(self) -> None:
        ahead = self._clock() - time.monotonic()
        await asyncio.sleep(self._first_s)
        while True:
            before, ahead = ahead, self._clock() - time.monotonic()
            if ahead - before > _JUMP_S:
                # The clock was probably set wrong and is soon corrected; or the machine was suspended, and an hour is
                # no harm.
                logger.warning(
                    "the clock jumped ahead by %.1f hours; no thread is deleted yet", (ahead - before) / 3600
                )
                await asyncio.sleep(self._every_s)
                continue
            try:
                if await self._leadership.is_leader("retention"):
                    await self._prune()
            except StoreError as error:
                logger.error("old threads could not be deleted, next try in %g s: %s", self._every_s, error)
            await asyncio.sleep(self._every_s)

    async def _prune(self) -> None:
        done = await prune(self._store, self._thread_activity, before=int(self._clock() - self._days * DAY_S))
        if done.threads:
            logger.info("deleted %d threads not used for %g days", done.threads, self._days)
