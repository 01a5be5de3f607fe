"""The runs that are executed in this process: their tasks, the outermost frame around each, and their readers.

Every task has an owner here, every stop a reason, and a run that breaks in a way nobody foresaw breaks alone.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

from graphs.build import compile_answer_graph, compile_run_graph, recursion_limit
from graphs.live import Live
from graphs.log import RunLog
from graphs.spans import end_run, run_span
from graphs.state import RunContext
from store.ports import Store
from watch.context import bind
from wire.errors import RunError, StoreError, Unavailable
from wire.events import Event

__all__ = ["Execution"]

logger = logging.getLogger("threadhold.runs")

_READ_EVENTS: Final = 1000
_CLOSE_S: Final = 5.0


class Execution:
    """Owns the tasks of running runs. `open` says whether new ones are taken."""

    def __init__(self, store: Store, max_tool_rounds: int) -> None:
        self.open = False
        self.graph = compile_run_graph(store.checkpoints)
        self._answering = compile_answer_graph()
        self.broken: dict[str, Exception] = {}
        """Runs that broke without their end being stored; somebody must end them from their rows."""
        self._store = store
        self._recursion_limit = recursion_limit(max_tool_rounds)
        self._lives: dict[str, Live] = {}
        self._tasks = asyncio.TaskGroup()

    async def enter(self) -> None:
        """Begin to take runs."""
        await self._tasks.__aenter__()
        self.open = True

    async def leave(self) -> None:
        """Park what still runs and wait for every task."""
        await self.drain(0)
        await self._tasks.__aexit__(None, None, None)

    def get(self, run_id: str) -> Live | None:
        """Return the run if it is executed here and now."""
        return self._lives.get(run_id)

    def __len__(self) -> int:
        return len(self._lives)

    def lasting(self, longer_than_s: float) -> list[Live]:
        """Return the runs that have been executed here for longer than that."""
        since = asyncio.get_running_loop().time() - longer_than_s
        return [live for live in self._lives.values() if live.begun_at < since]

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task of the house, ended by its canceller, at the latest with the group."""
        return self._tasks.create_task(work)

    async def drain(self, limit_s: float) -> None:
        """Take no new runs, wait up to `limit_s` for those that are executed, then park the rest: they stay as the
        store has them and are taken up at the next start."""
        self.open = False
        if limit_s > 0:
            await self._ended(limit_s)
        for live in list(self._lives.values()):
            live.halt("parked")
        await self._ended(_CLOSE_S)

    async def _ended(self, limit_s: float) -> None:
        waits = [asyncio.ensure_future(live.ended.wait()) for live in self._lives.values()]
        if waits:
            _, late = await asyncio.wait(waits, timeout=limit_s)
            for wait in late:
                wait.cancel()

    def begin(self, live: Live, work: Coroutine[Any, Any, None]) -> None:
        """Execute a run: `work` drives it."""
        self._lives[live.run_id] = live
        live.begun_at = asyncio.get_running_loop().time()
        with bind(run_id=live.run_id):
            live.task = self._tasks.create_task(self._supervise(live, work), name=live.run_id)

    async def drive(self, live: Live, given: Any, context: RunContext, *, resumed: bool) -> None:
        """Drive a run's graph until it pauses or ends; `resumed` when checkpoints of it may exist."""
        live.checkpointed = resumed or bool(context.tools.specs)
        graph = self.graph if live.checkpointed else self._answering
        config = {
            "configurable": {"thread_id": live.run_id, "fresh": not resumed},
            "recursion_limit": self._recursion_limit,
        }
        await live.drive(graph, given, config, context)

    async def _supervise(self, live: Live, work: Coroutine[Any, Any, None]) -> None:
        """The outermost frame of a run: whatever happens in it, nobody else is hurt, and the run ends or waits
        lawfully, if need be as soon as the store takes writes again (see `broken`)."""
        try:
            with run_span(live.run) as span:
                try:
                    await work
                except asyncio.CancelledError:
                    live.stop = live.stop or "parked"
                    if (task := asyncio.current_task()) is not None:
                        task.uncancel()
                    await live.stopped()
                except RunError as error:
                    await live.failed(error)
                end_run(span, live.run)
        except Exception as error:
            if live.stop not in ("refused", "deleted"):
                defect = None if isinstance(error, StoreError) else error  # what the disk does needs no traceback
                told = error.plain if isinstance(error, StoreError) else type(error).__name__
                logger.error("run %s cannot go on: %s", live.run_id, told, exc_info=defect)
                self.broken[live.run_id] = error
                live.log.close(Unavailable(f"Run {live.run_id} cannot go on; see the server's log."))
        finally:
            live.open()
            self._lives.pop(live.run_id, None)
            live.log.close(live.log.error)
            live.ended.set()

    async def follow(self, run_id: str, *, after: int) -> AsyncIterator[list[Event]]:
        """Yield batches of the run's events with numbers above `after`, first from the store, then live.

        Ends when everything is read and the run pauses or has ended. The caller has checked whose run it is.
        Raises Unavailable when the server parks the run.
        """
        while True:
            live = self._lives.get(run_id)
            if live is not None and after + 1 >= live.log.first:
                async for batch in _follow_live(live.log, after):
                    yield batch
                return
            stored = await self._store.events(run_id, after=after, limit=_READ_EVENTS)
            if live is not None:
                stored = [event for event in stored if event.number < live.log.first]
            if stored:
                after = stored[-1].number
                yield stored
            elif live is not None:
                after = live.log.first - 1
            elif self._lives.get(run_id) is None:
                return


async def _follow_live(log: RunLog, after: int) -> AsyncIterator[list[Event]]:
    while True:
        batch = log.since(after)
        if batch:
            after = batch[-1].number
            yield batch
        elif log.closed:
            if log.error is not None:
                raise log.error
            return
        else:
            await log.grown(after)
