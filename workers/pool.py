"""A few long-lived child processes for work whose cost depends on untrusted input. Owners are scheduled fairly.

Invariants: an event loop never blocks on a task. A task that exceeds its budget is ended with its child and fails
alone. No owner occupies all children. Each child belongs to one thread, which starts it at its first task, ends it when
it is idle, and collects it, so the pool works with any number of event loops, or none.
"""

import asyncio
import atexit
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from telemetry.context import current_owner
from wire.errors import BudgetExceeded
from workers.budgets import CHECK, MEMORY_BYTES, Budget
from workers.process import ChildProcess

__all__ = ["Pool", "open_workers", "workers"]


@dataclass(eq=False, slots=True)
class _Task:
    owner: str
    function: str
    arguments: tuple[object, ...]
    options: dict[str, object]
    budget: Budget
    done: "Future[object]" = field(default_factory=Future)
    child: ChildProcess | None = None
    """The child that executes it."""

    @property
    def is_long(self) -> bool:
        """Whether it can take longer than a check."""
        return self.budget.cpu_s > CHECK.cpu_s


class Pool:
    """Children and the tasks that wait for them. All methods are thread-safe.

    There are at most `size` children. One owner has at most `share` of them, and at most `max_waiting` tasks in the
    queue. A task waits in it for at most `patience_s`. A child ends after `idle_s` without a task, or after
    `max_tasks` tasks.
    """

    def __init__(
        self,
        *,
        size: int = 3,
        share: int = 2,
        max_waiting: int = 64,
        patience_s: float = 20.0,
        idle_s: float = 60.0,
        max_tasks: int = 2_000,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._size = size
        self._share = share
        self._max_waiting = max_waiting
        self._patience_s = patience_s
        self._idle_s = idle_s
        self._max_tasks = max_tasks
        self._memory_bytes = memory_bytes
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, deque[_Task]] = OrderedDict()
        self._working: Counter[str] = Counter()
        self._long = 0
        """Running tasks that have a larger budget than a check."""
        self._threads: set[threading.Thread] = set()
        self._children: set[ChildProcess] = set()
        self._free = 0
        """Threads without a task."""
        self._closing = False

    async def run(self, function: str, *arguments: object, budget: Budget = CHECK, **options: object) -> Any:
        """Call one of our functions (`module:name`) in a child; arguments and results must be JSON values. The caller
        knows the type of the result.

        Cancelling the call ends its child.

        Raises:
            BudgetExceeded: the task used up its budget or crashed its child, or too many tasks wait.
            RuntimeError: the function itself failed.
        """
        task = _Task(current_owner(), function, arguments, options, budget)
        self._enqueue(task)
        try:
            async with asyncio.timeout(self._patience_s + budget.wall_s):
                return await asyncio.wrap_future(task.done)
        except TimeoutError:
            raise BudgetExceeded("There was no answer in time.", why="late") from None
        finally:
            self._abandon(task)

    def call(self, function: str, *arguments: object, budget: Budget = CHECK, **options: object) -> Any:
        """Do the same as `run`, but block the calling thread."""
        task = _Task(current_owner(), function, arguments, options, budget)
        self._enqueue(task)
        return task.done.result()

    @property
    def pids(self) -> list[int]:
        """The process ids of the children."""
        with self._changed:
            return [pid for child in self._children if (pid := child.pid) is not None]

    def close(self) -> None:
        """End every child and thread; blocks briefly. Unfinished tasks fail. The pool can be used again."""
        with self._changed:
            self._closing = True
            for queue in self._waiting.values():
                for task in queue:
                    _fail(task, BudgetExceeded("The server is shutting down.", why="late"))
            self._waiting.clear()
            for child in self._children:
                child.kill()
            self._changed.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join(10)
        with self._changed:
            self._closing = False

    # --- the queue ----------------------------------------------------------------------------------------------------

    def _enqueue(self, task: _Task) -> None:
        with self._changed:
            queue = self._waiting.get(task.owner, ())
            if self._closing or len(queue) >= self._max_waiting:
                message = (
                    f"{len(queue)} of your checks are already waiting." if queue else "The server is shutting down."
                )
                raise BudgetExceeded(message, why="late")
            self._waiting.setdefault(task.owner, deque()).append(task)
            if sum(map(len, self._waiting.values())) > self._free and len(self._threads) < self._size:
                thread = threading.Thread(target=self._serve, name="threadhold worker", daemon=True)
                self._threads.add(thread)
                self._free += 1
                thread.start()
            self._changed.notify_all()

    def _abandon(self, task: _Task) -> None:
        """Drop a task whose caller no longer waits; does nothing if it is done."""
        with self._changed:
            if task.done.done() and task.child is None:
                return
            queue = self._waiting.get(task.owner)
            if queue is not None and task in queue:
                queue.remove(task)
                if not queue:
                    del self._waiting[task.owner]
            elif task.child is not None:
                task.child.kill()

    def _dequeue(self, child: ChildProcess) -> _Task | None:
        """Return the next task: owners are scheduled fairly, and an owner whose share is in use is skipped.

        The last child is reserved for checks: documents of other owners could occupy all children for many seconds.
        """
        for owner, queue in self._waiting.items():
            if self._working[owner] >= self._share:
                continue
            task = next((task for task in queue if not task.is_long or self._long < max(1, self._size - 1)), None)
            if task is not None:
                queue.remove(task)
                self._long += task.is_long
                del self._waiting[owner]
                if queue:
                    self._waiting[owner] = queue  # after all others
                self._working[owner] += 1
                child.assign()
                task.child = child
                return task
        return None

    # --- the threads --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        child = ChildProcess(self._memory_bytes)
        with self._changed:
            self._children.add(child)
        try:
            while (task := self._next(child)) is not None:
                self._run_task(child, task)
                if child.tasks >= self._max_tasks:
                    child.end()
        finally:
            child.end()
            with self._changed:
                self._children.discard(child)

    def _next(self, child: ChildProcess) -> _Task | None:
        """Wait for a task; None ends the thread, which is then no longer counted."""
        with self._changed:
            until = time.monotonic() + self._idle_s
            while not self._closing:
                if (task := self._dequeue(child)) is not None:
                    self._free -= 1
                    return task
                self._changed.wait(max(until - time.monotonic(), 0.0))
                if time.monotonic() >= until and not self._waiting:
                    break
            self._free -= 1
            self._threads.discard(threading.current_thread())
            return None

    def _run_task(self, child: ChildProcess, task: _Task) -> None:
        value, error = None, None
        try:
            value = child.ask(task.function, task.arguments, task.options, task.budget)
        except Exception as raised:  # reported to the caller; the thread continues
            error = raised
        with self._changed:
            task.child = None
            self._free += 1
            self._long -= task.is_long
            self._working[task.owner] -= 1
            if not self._working[task.owner]:
                del self._working[task.owner]
            self._changed.notify_all()
        if child.killed:  # it can have answered before
            child.end()
        if error is not None:
            _fail(task, error)
        elif task.done.set_running_or_notify_cancel():
            task.done.set_result(value)


def _fail(task: _Task, error: Exception) -> None:
    if task.done.set_running_or_notify_cancel():
        task.done.set_exception(error)


# --- the pool of this process -----------------------------------------------------------------------------------------

_shared: Final = Pool()
_users = 0
_changing_users: Final = threading.Lock()
"""Held while the pool closes: several threads can each have an event loop whose tasks use the pool."""
atexit.register(_shared.close)


def workers() -> Pool:
    """Return the pool of this process: one for all servers in it, so that it limits the load of the machine."""
    return _shared


@asynccontextmanager
async def open_workers() -> AsyncIterator[Pool]:
    """Use the pool; its children end when the last user leaves."""
    _change_users(1)
    try:
        yield _shared
    finally:
        await asyncio.shield(asyncio.to_thread(_change_users, -1))


def _change_users(change: int) -> None:
    global _users
    with _changing_users:
        _users += change
        if not _users:
            _shared.close()
