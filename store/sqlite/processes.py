"""The ports of several processes on one SQLite file, for processes of one machine that were opened to share it.

Invariants: each process writes a heartbeat about once a second. One whose heartbeat is older than the lease is declared
dead: it leaves `processes`, and everything that it held is free (see `tables.FREE_SQL`). Only a process whose own
heartbeats have no gap for a whole lease declares others dead, so a pause of the machine ends no process. A process
that could be declared dead soon ends its work first.

SQLite has no notifications: subscribers and followers look at the store every `poll_s`.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, Self

from store.ports import Processes, SharedTask, Sharing, Topic, Unfinished
from store.sqlite.changes import Operation
from store.sqlite.database import Engine
from store.sqlite.registration import NOBODY, machine_time, register
from store.sqlite.tables import EXECUTED_SQL, FREE_SQL, UNFINISHED
from telemetry.background import restart_on_error
from wire.errors import LeaseLost, StoreError
from wire.events import Event

__all__ = ["SharedFile"]

logger = logging.getLogger("threadhold.processes")

_NEAR: Final = 0.7
"""The part of a lease after which a process without a heartbeat ends its work."""
_RETRY_S: Final = 0.5


class SharedFile:
    """This process among others. An async context manager: entering starts the heartbeats, leaving releases what is
    held."""

    is_single_process = False

    def __init__(self, engine: Engine, sharing: Sharing) -> None:
        self._engine = engine
        self._sharing = sharing
        self._stops: list[Callable[[], Awaitable[None]]] = []
        self._wakes: list[Callable[[], None]] = []
        self._leads: set[SharedTask] = set()
        self._registered_at = self._beaten_at = machine_time()
        self._tasks = asyncio.TaskGroup()
        self._work: list[asyncio.Task[None]] = []

    @property
    def ports(self) -> Processes:
        """The ports, which this object implements."""
        return Processes(liveness=self, run_queue=self, tail=self, notifications=self, leadership=self)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        works = (self._send_heartbeats, self._wake_forever)
        self._work = [self._tasks.create_task(restart_on_error(work, retry_s=self._sharing.poll_s)) for work in works]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._work:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        with suppress(StoreError):  # otherwise the others wait for the lease
            await self._queue(_leave(self._engine.fence.process), durable=True)

    # --- liveness -----------------------------------------------------------------------------------------------------

    def on_loss(self, stop: Callable[[], Awaitable[None]]) -> None:
        self._stops.append(stop)

    async def is_progressing(self, run_id: str) -> bool:
        # Also if this process holds it: it is just being resumed or ended here.
        sql = f"SELECT 1 FROM runs WHERE id = ? AND status IN {EXECUTED_SQL}"
        await self._engine.pending.wait_for(run_id)
        return await self._engine.read(lambda conn: conn.execute(sql, (run_id,)).fetchone() is not None)

    async def _send_heartbeats(self) -> None:
        while True:
            if self._engine.lost.is_set() or self._left_s <= 0:
                await self._start_over()
            started_at = machine_time()
            try:
                async with asyncio.timeout(max(0.0, self._left_s)):
                    await self._queue(partial(self._write_heartbeat, self._engine.fence.process))
                self._beaten_at = started_at
            except TimeoutError:
                continue
            except LeaseLost:
                continue
            except StoreError as error:
                logger.error("a heartbeat could not be stored: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._sharing.beat_s):
                    await self._engine.lost.wait()

    @property
    def _left_s(self) -> float:
        """Seconds until this process must end its work, because others soon declare it dead."""
        return self._beaten_at + _NEAR * self._sharing.lease_s - machine_time()

    def _write_heartbeat(self, process: int, conn: sqlite3.Connection) -> None:
        now, lease_s = machine_time(), self._sharing.lease_s
        (before,) = conn.execute("SELECT beat_at FROM processes WHERE id = ?", (process,)).fetchone()
        conn.execute("UPDATE processes SET beat_at = ? WHERE id = ?", (now, process))
        if now - self._registered_at < lease_s or now - before > _NEAR * lease_s:
            return
        # The clock restarts with the machine, so a later heartbeat is from before.
        sql = "DELETE FROM processes WHERE id <> ? AND (beat_at < ? OR beat_at > ?)"
        dead = conn.execute(sql, (process, now - lease_s, now + lease_s)).rowcount
        if dead:
            logger.warning("processes without a heartbeat were declared dead: %d", dead)

    async def _start_over(self) -> None:
        """End all work on what is held, and register as a new process. Returns once the store accepts it."""
        logger.error("this process had no heartbeat for too long: its work is stopped, and it registers again")
        former, self._engine.fence.process = self._engine.fence.process, NOBODY
        self._leads.clear()
        await asyncio.gather(*(stop() for stop in self._stops))
        while True:
            numbers: list[int] = []
            try:
                await self._queue(partial(_replace, former, numbers), registers=True)
                break
            except StoreError as error:
                logger.error("this process cannot register, next try in %g s: %s", _RETRY_S, error)
                await asyncio.sleep(_RETRY_S)
        self._engine.fence.process = numbers[0]
        self._engine.lost.clear()
        self._registered_at = self._beaten_at = machine_time()

    # --- the other ports ----------------------------------------------------------------------------------------------

    async def runs(self) -> list[Unfinished]:
        await self._engine.pending.wait_for_all()
        mine = f"status <> 'requires_action' AND ({FREE_SQL} OR holder = ?)"
        sql = f"{UNFINISHED} AND {mine} ORDER BY seq"
        values = (self._engine.fence.process,)
        return await self._engine.read(lambda conn: [Unfinished(*found) for found in conn.execute(sql, values)])

    async def next(self, run_id: str, after: int) -> list[Event]:  # noqa: ARG002
        await asyncio.sleep(self._sharing.poll_s)
        return []

    def subscribe(self, topic: Topic, wake: Callable[[], None]) -> None:  # noqa: ARG002
        self._wakes.append(wake)

    async def _wake_forever(self) -> None:
        while True:
            await asyncio.sleep(self._sharing.poll_s)
            for wake in self._wakes:
                wake()

    async def is_leader(self, task: SharedTask) -> bool:
        if task in self._leads:
            return True
        process = self._engine.fence.process
        sql = "SELECT 1 FROM duties WHERE name = ? AND holder <> ? AND holder IN (SELECT id FROM processes)"
        if await self._engine.read(lambda conn: conn.execute(sql, (task, process)).fetchone() is not None):
            return False
        taken: list[int] = []
        await self._queue(partial(_take, task, process, taken))
        if taken and process == self._engine.fence.process:
            self._leads.add(task)
        return bool(taken)

    async def _queue(self, operation: Operation, *, durable: bool = False, registers: bool = False) -> None:
        await self._engine.queue([operation], touched=frozenset(), durable=durable, registers=registers)


# --- operations on the writer's thread ----------------------------------------------------------------------------


def _leave(process: int) -> Operation:
    def run(conn: sqlite3.Connection) -> None:
        conn.execute("DELETE FROM processes WHERE id = ?", (process,))

    return run


def _replace(process: int, numbers: list[int], conn: sqlite3.Connection) -> None:
    """Give up what the process held, and register a new one; its number is added to `numbers`."""
    conn.execute("DELETE FROM processes WHERE id = ?", (process,))
    numbers[:] = [register(conn, is_single_process=False)]


def _take(task: SharedTask, process: int, taken: list[int], conn: sqlite3.Connection) -> None:
    sql = """INSERT INTO duties (name, holder) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET holder = ?2
             WHERE holder NOT IN (SELECT id FROM processes)"""
    conn.execute(sql, (task, process))
    taken[:] = conn.execute("SELECT 1 FROM duties WHERE name = ? AND holder = ?", (task, process)).fetchone() or ()
