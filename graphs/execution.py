"""The runs that this process executes: their tasks, the outermost frame of each, and their readers.

Every task has an owner, every stop has a reason, and an unexpected error in one run affects no other run.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import Final

from langchain_core.runnables import RunnableConfig

from graphs.active_run import ActiveRun
from graphs.admission import Admission, Limits, QueuedRun
from graphs.checkpoints import StoreSaver
from graphs.fanout import SOME_EVENTS, fanout, work_of
from graphs.log import RunLog
from graphs.machine.build import compile_reply_graph, compile_run_graph, recursion_limit
from graphs.machine.spans import end_run, run_span
from graphs.machine.state import GraphInput, RunContext
from graphs.run_stops import lost_stop, shutdown_error
from graphs.started import StartedRun
from graphs.stored_events import StoredEvents
from store.ports import Processes, Row, Store
from store.single_process import single_process
from telemetry.context import bind, current_owner, set_current_owner
from telemetry.tracebacks import clear_tracebacks
from wire.errors import RunError, StoreError, Unavailable
from wire.events import Event, LastEvents

__all__ = ["Execution"]

logger = logging.getLogger("threadhold.runs")

_CLOSE_S: Final = 5.0
_LINGER_S: Final = 1.0
"""How long an ended run's events stay in memory for its readers; slower readers read them from the store."""


class Execution:
    """Owns the tasks of executing runs. `open` is whether new runs are accepted."""

    def __init__(
        self, store: Store, max_tool_rounds: int, limits: Limits | None = None, processes: Processes | None = None
    ) -> None:
        self.open = False
        self._stopping = False
        self.admission = Admission(limits or Limits())
        self.resume_queued: Callable[[QueuedRun], Awaitable[bool]] | None = None
        """Continues a run that was admitted; returns False if it has ended meanwhile. Raises StoreError."""
        self.graph = compile_run_graph(StoreSaver(store.checkpoints))
        self._reply_graph = compile_reply_graph()
        self.broken: dict[str, Exception] = {}
        """Errors of runs whose end could not be stored, by run id; the sweep must end these runs from their rows."""
        self._store = store
        self._processes = processes or single_process(store)
        self._processes.liveness.on_loss(self._stop_after_lease_loss)
        self._recursion_limit = recursion_limit(max_tool_rounds)
        self._active_runs: dict[str, ActiveRun] = {}
        self._stored = StoredEvents(store)
        self._tasks = asyncio.TaskGroup()
        self._starting: set[asyncio.Task[StartedRun]] = set()
        self._releases: dict[RunLog, asyncio.TimerHandle] = {}
        """Logs of runs that have paused or ended → the timer that releases them."""

    async def start(self) -> None:
        """Start to accept runs."""
        await self._tasks.__aenter__()
        self.open = True

    async def stop(self) -> None:
        """Stop the runs that still execute, and wait for every task."""
        await self.drain(0)
        if self._starting:
            await asyncio.wait(self._starting)
        await self._tasks.__aexit__(None, None, None)
        for release in self._releases.values():
            release.cancel()
        self._releases.clear()

    def get(self, run_id: str) -> ActiveRun | None:
        """Return the run if this process executes it now."""
        return self._active_runs.get(run_id)

    def __len__(self) -> int:
        return len(self._active_runs)

    def active_runs(self) -> list[ActiveRun]:
        """Return the runs that this process executes."""
        return list(self._active_runs.values())

    def executing_longer_than(self, longer_than_s: float) -> list[ActiveRun]:
        """Return the runs that this process has executed for longer than that."""
        since = asyncio.get_running_loop().time() - longer_than_s
        return [active for active in self._active_runs.values() if active.begun_at < since]

    def create_task(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a task of the server; it is awaited when the server stops."""
        return self._tasks.create_task(work)

    def create_start_task(
        self, work: Coroutine[object, object, StartedRun], context: Context | None = None
    ) -> "asyncio.Task[StartedRun]":
        """Run the start of a run in a task of the server: a caller that leaves does not end it. It can fail."""
        task = asyncio.create_task(work, context=context)
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return task

    async def drain(self, limit_s: float) -> None:
        """Accept no new runs, wait up to `limit_s` for the executing ones, then stop the rest: they stay as stored, and
        the next start continues them."""
        self.open = False
        self.admission.close()
        if limit_s > 0:
            await self._wait(limit_s)
        self._stopping = True  # also stops runs that were admitted earlier and start later
        for active in list(self._active_runs.values()):
            active.stop_for("shutdown")
        await self._wait(_CLOSE_S)

    async def _stop_after_lease_loss(self) -> None:
        """Stop every run, because other processes can take it over. Returns once all have stopped."""
        active_runs = list(self._active_runs.values())
        for active in active_runs:
            active.stop_for("lost")
        for active in active_runs:
            await active.ended.wait()
        self.broken.clear()

    async def _wait(self, limit_s: float) -> None:
        waits = [asyncio.ensure_future(active.ended.wait()) for active in self._active_runs.values()]
        if waits:
            _, late = await asyncio.wait(waits, timeout=limit_s)
            for wait in late:
                wait.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def start_run(self, active: ActiveRun, work: Coroutine[object, object, None], *, is_admitted: bool = False) -> None:
        """Execute a run that `work` drives. A run that was admitted from the queue has been counted already."""
        if not is_admitted:
            active.number = self.admission.admit(active.owner, active.weight, active.memory)
        active.resize = partial(self._resize, active)
        self._active_runs[active.run_id] = active
        active.begun_at = asyncio.get_running_loop().time()
        if self._stopping:
            active.stop_for("shutdown")
        with bind(run_id=active.run_id):
            self._tasks.create_task(self._supervise(active, work), name=active.run_id)

    def start_queued(self) -> None:
        """Start as many queued runs as the limits allow, each in a task of its own."""
        while self.open and (run := self.admission.admit_next()) is not None:
            self._tasks.create_task(self._start_admitted(run), name=f"start {run.run_id}", context=run.context)

    async def _start_admitted(self, run: QueuedRun) -> None:
        assert self.resume_queued is not None, "set before the first run is queued"
        try:
            if await self.resume_queued(run):
                self.admission.remove(run.run_id)
                return
            self.admission.remove(run.run_id)
        except StoreError as error:
            logger.error("run %s could not be continued and is queued again: %s", run.run_id, error)
            self.admission.requeue(run)
            self.admission.release(run.owner, run.weight, run.memory, number=run.number)
            return  # the sweep starts queued runs again
        except Exception as error:  # the outermost frame of a task
            logger.exception("run %s could not be continued", run.run_id)
            self.broken[run.run_id] = error
            self.admission.remove(run.run_id)
        self._ended(run)

    def _ended(self, run: ActiveRun | QueuedRun) -> None:
        self.admission.release(run.owner, run.weight, run.memory, number=run.number)
        self.start_queued()

    def _resize(self, active: ActiveRun, memory: int, only_if_free: bool) -> bool:
        change = memory - active.memory
        if only_if_free and not self.admission.has_memory(active.owner, memory, active.memory):
            return False
        active.memory = memory
        self.admission.resize(active.owner, change)
        if change < 0:
            self.start_queued()
        return True

    async def drive(
        self,
        active: ActiveRun,
        given: GraphInput,
        context: RunContext,
        *,
        resumed: bool,
        commit: "asyncio.Future[list[Row]] | None" = None,
    ) -> None:
        """Drive a run's graph until it pauses or ends; `resumed` if checkpoints of it can exist.

        `commit` is the start's, if it is not awaited. Until it stands, another process can have continued the run, so a
        run that resumes waits for it.
        """
        if resumed and commit is not None and not self._processes.liveness.is_single_process:
            await asyncio.shield(commit)
        active.checkpointed = resumed or bool(context.tools.specs) or context.tools.discover is not None
        graph = self.graph if active.checkpointed else self._reply_graph
        active.start()
        if context.tools.discover is not None:
            context = replace(context, tools=await context.tools.completed())
        config: RunnableConfig = {
            "recursion_limit": self._recursion_limit,
            "configurable": {"thread_id": active.run_id, "fresh": not resumed},
        }
        await active.drive(graph, given, config, context)

    async def _supervise(self, active: ActiveRun, work: Coroutine[object, object, None]) -> None:
        """The outermost frame of a run: no error in it affects other runs, and the run always ends or pauses with a
        valid status, if need be only once the store accepts writes again (see `broken`)."""
        set_current_owner(active.owner)
        try:
            with run_span(active.run) as span:
                try:
                    active.task = asyncio.current_task()
                    if active.stop is not None:  # stopped before the task's first step
                        work.close()
                        raise asyncio.CancelledError
                    await work
                except asyncio.CancelledError:
                    active.stop = active.stop or "shutdown"
                    if (task := asyncio.current_task()) is not None:
                        task.uncancel()
                    await active.stopped()
                except RunError as error:
                    await active.failed(error)
                    clear_tracebacks(error)
                end_run(span, active.run)
        except Exception as error:
            if active.stop is None and (stop := lost_stop(error)) is not None:
                active.stop = stop
                await active.stopped()
            if active.stop not in ("refused", "deleted", "lost"):
                defect = None if isinstance(error, StoreError) else error  # a failure of the disk needs no traceback
                reason = error.plain if isinstance(error, StoreError) else type(error).__name__
                logger.error("run %s cannot continue: %s", active.run_id, reason, exc_info=defect)
                self.broken[active.run_id] = error
                active.log.close(Unavailable(f"Run {active.run_id} cannot continue; see the server's log."))
            clear_tracebacks(error)
        finally:
            self._active_runs.pop(active.run_id, None)
            active.log.close(active.log.error)
            if active.log.error is None:
                loop = asyncio.get_running_loop()
                self._releases[active.log] = loop.call_later(_LINGER_S, self._release, active.log)
            active.ended.set()
            self._ended(active)
            active.resize = lambda _memory, _only_if_free: False  # its memory must not be counted again

    def _release(self, log: RunLog) -> None:
        del self._releases[log]
        log.release()

    async def follow(self, run_id: str, *, after: int) -> AsyncIterator[list[Event]]:
        """Yield batches of the run's events with numbers above `after`, first from the store, then live.

        The last batch is a `LastEvents` if it is known to be the last. Ends when everything is read and the run pauses
        or has ended, wherever it is executed. For a queued run, yields what there is and continues when it is admitted.
        The caller checks the owner. Raises Unavailable when the server shuts down.
        """
        has_stopped = False
        while True:
            log = self._log(run_id)  # not the run itself, which a slow reader would keep in memory
            if log is not None and after + 1 >= log.first:
                async for batch in _follow_live(log, after):
                    after = batch[-1].number
                    yield batch
                if after + 1 >= log.first:
                    return
                continue  # the run has ended and released events that this reader has not read
            stored = await self._stored.next(run_id, after, None if log is None else log.first)
            if stored.events:
                with stored:
                    after = stored.events[-1].number
                    await fanout().wait_to_start(current_owner(), run_id, work_of(len(stored.events)))
                    yield stored.events
            elif log is not None:
                after = log.first - 1
            elif has_stopped:
                return
            elif (tail := await self._wait_for_stored_events(run_id, after)) is None:
                has_stopped = True  # perhaps since the last read, so there can be events
            elif tail:
                after = tail[-1].number
                yield tail

    def _log(self, run_id: str) -> RunLog | None:
        """Return the log of a run that is executed here. None also while a run stops that another process has taken
        over: its events that are not stored are generated again there."""
        active = self._active_runs.get(run_id)
        return None if active is None or active.stop == "lost" else active.log

    async def _wait_for_stored_events(self, run_id: str, after: int) -> list[Event] | None:
        """Wait until the log of a run that is not executed here can have grown; returns its new events if they are
        available. None if it no longer grows. Raises Unavailable if the server stops."""
        if await self._wait_for_admission(run_id, after) or self._log(run_id) is not None:
            return []
        if not await self._processes.liveness.is_progressing(run_id):
            return None
        if not self.open:
            raise shutdown_error(run_id, after)
        return await self._processes.tail.next(run_id, after)

    async def _wait_for_admission(self, run_id: str, after: int) -> bool:
        """Wait until a run leaves the queue; False if it is not queued. Raises Unavailable if the server stops."""
        run = self.admission.get(run_id)
        if run is None:
            return False
        await run.left.wait()
        if not self.open and self.admission.get(run_id) is not None:
            raise shutdown_error(run_id, after)
        return True


async def _follow_live(log: RunLog, after: int) -> AsyncIterator[list[Event]]:
    can_read = False
    while after + 1 >= log.first:
        batch = log.since(after)
        if batch:
            if not can_read or len(batch) >= SOME_EVENTS:
                await log.wait_to_read(len(batch))
            can_read = False
            after = batch[-1].number
            if log.closed and log.error is None and after + 1 == log.next:
                yield LastEvents(batch)
                return
            yield batch
        elif log.closed:
            if log.error is not None:
                raise log.error
            return
        else:
            await log.wait_for_events(after)
            can_read = True
