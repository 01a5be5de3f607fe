"""The only bridge from synchronous callers, and from other event loops, to our asynchronous code.

One event loop in a daemon thread serves all of them. Context variables are copied. A caller that stops waiting or
reading cancels the work that it waited for, and closes the asynchronous generator that it read from.
"""

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import Final, Generic, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import get_config_list

__all__ = ["BATCH_SLOTS", "BridgedRunnable", "SlotFactory", "follow", "iterate", "join", "run"]

T = TypeVar("T")
Input = TypeVar("Input")
Output = TypeVar("Output")

BATCH_SLOTS: Final = "__batch_slots"
"""Key of `config["configurable"]` that has the `SlotFactory` of a batch's inputs; only the server sets it. LangChain
does not show names that start with these underscores."""

SlotFactory = Callable[[], AbstractAsyncContextManager[None]]
"""Makes a context manager that waits for a turn when it is entered, and ends the turn when it is left."""


class _End(Enum):
    END = auto()


_END: Final = _End.END


_starting: Final = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:  # without it, several first calls at once would run the function several times
        return _started_loop()


@cache
def _started_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="threadhold-bridge", daemon=True).start()
    return loop


def run(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine on the bridge's loop, and wait for its result or exception; interrupting the wait cancels it.

    Raises RuntimeError on the bridge's own loop, which would wait for itself.
    """
    if _is_on_bridge():
        work.close()
        raise RuntimeError("Called synchronously from asynchronous code on the bridge's own loop: await it instead.")
    submitted = _submit(work)
    try:
        return submitted.done.result()
    finally:
        submitted.stop()


async def join(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine as `run` does, but from another event loop. On the bridge's own loop, just await it."""
    if _is_on_bridge():
        return await work
    submitted = _submit(work)
    try:
        return await asyncio.wrap_future(submitted.done)
    finally:
        submitted.stop()


def iterate(make: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """Yield the items of an asynchronous generator as they arrive; leaving closes it. Raises as `run` does."""
    if _is_on_bridge():
        raise RuntimeError("Iterated synchronously on the bridge's own loop: use `async for` instead.")
    chunks: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
    submitted = _submit(_pump(make, chunks.put))
    try:
        while (item := chunks.get()) is not _END:
            yield item
        submitted.done.result()
    finally:
        submitted.stop()


async def follow(make: Callable[[], AsyncIterator[T]]) -> AsyncIterator[T]:
    """Yield items as `iterate` does, but in another event loop. On the bridge's own loop, use the generator itself."""
    if _is_on_bridge():
        async with aclosing(make()) as items:  # type: ignore[type-var]
            async for item in items:
                yield item
        return
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[T | _End] = asyncio.Queue()
    submitted = _submit(_pump(make, lambda item: loop.call_soon_threadsafe(chunks.put_nowait, item)))
    try:
        while (chunk := await chunks.get()) is not _END:
            yield chunk
        await asyncio.wrap_future(submitted.done)
    finally:
        submitted.stop()


async def _pump(make: Callable[[], AsyncIterator[T]], put: Callable[[T | _End], object]) -> None:
    try:
        async with aclosing(make()) as items:  # type: ignore[type-var]
            async for item in items:
                put(item)
    finally:
        put(_END)


@dataclass(slots=True)
class _BridgedTask(Generic[T]):
    """Work on the bridge's loop: its result, and its task once it has one."""

    done: "Future[T]"
    task: "asyncio.Task[T] | None" = None

    def stop(self) -> None:
        """Cancel the work unless it has ended. The loop runs calls in order, so the task exists by then."""
        if self.task is None or not self.task.done():
            _loop().call_soon_threadsafe(lambda: self.task.cancel() if self.task is not None else None)


def _is_on_bridge() -> bool:
    try:
        return asyncio.get_running_loop() is _loop()
    except RuntimeError:
        return False


def _submit(work: Coroutine[object, object, T]) -> _BridgedTask[T]:
    submitted: _BridgedTask[T] = _BridgedTask(Future())
    submitted.done.set_running_or_notify_cancel()  # the caller can stop waiting; only the task sets the result

    def begin() -> None:
        submitted.task = asyncio.ensure_future(work)
        submitted.task.add_done_callback(lambda ended: _copy_result(ended, submitted.done))

    # LangChain and LangGraph keep the run's configuration in the context.
    _loop().call_soon_threadsafe(begin, context=contextvars.copy_context())
    return submitted


def _copy_result(task: "asyncio.Task[T]", done: "Future[T]") -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())


class BridgedRunnable(Runnable[Input, Output]):
    """A Runnable that implements only `ainvoke` and `astream`, and can be called from anywhere."""

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: object) -> Output:
        """See `ainvoke`."""
        return run(self.ainvoke(input, config, **kwargs))

    def stream(self, input: Input, config: RunnableConfig | None = None, **kwargs: object) -> Iterator[Output]:
        """See `astream`."""
        return iterate(lambda: self.astream(input, config, **kwargs))

    async def abatch(
        self,
        inputs: list[Input],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: object,
    ) -> list[Output]:
        """Process several inputs concurrently, as many at a time as the configuration's `BATCH_SLOTS` allow."""
        configs = get_config_list(config, len(inputs)) if inputs else []
        slots: SlotFactory | None = configs[0].get("configurable", {}).get(BATCH_SLOTS) if configs else None
        if slots is None:
            return await super().abatch(inputs, config, return_exceptions=return_exceptions, **kwargs)

        async def handle(input: Input, config: RunnableConfig) -> Output:
            async with slots():
                try:
                    return await self.ainvoke(input, config, **kwargs)
                except Exception as error:  # of any Runnable; LangChain returns it in place of the output
                    if not return_exceptions:
                        raise
                    return cast(Output, error)

        try:
            async with asyncio.TaskGroup() as group:
                work = []
                for each in zip(inputs, configs, strict=True):
                    work.append(group.create_task(handle(*each)))
                    await asyncio.sleep(0)  # other tasks run between the starts, each of which takes a millisecond
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in work]
