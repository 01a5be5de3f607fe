"""The one bridge from synchronous callers, and from other event loops, to our asynchronous code; nothing has a twin.

One event loop in a daemon's thread serves all of them. Context variables go along; a caller that stops waiting or
reading stops what it waited for, and closes the asynchronous generator that it read from.
"""

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Generic, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import get_config_list

__all__ = ["TURNS", "BridgedRunnable", "Turns", "follow", "iterate", "join", "run"]

T = TypeVar("T")
Given = TypeVar("Given")
Made = TypeVar("Made")

TURNS: Final = "__turns"
"""Key of `config["configurable"]` that has the `Turns` of a batch's inputs; only the server sets it. LangChain does not
show names with these underscores."""

Turns = Callable[[], AbstractAsyncContextManager[None]]
"""Makes a context manager that waits for a turn when it is entered, and ends the turn when it is left."""

_END: Final = object()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="threadhold-bridge", daemon=True).start()
    return loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the bridge's loop, and wait for what it returns or raises; interrupting the wait stops it.

    Raises RuntimeError on the bridge itself, which would wait for itself.
    """
    if _is_here():
        work.close()
        raise RuntimeError("Called synchronously from asynchronous code on the bridge's own loop: await it instead.")
    begun = _begin(work)
    try:
        return begun.done.result()
    finally:
        begun.stop()


async def join(work: Coroutine[Any, Any, T]) -> T:
    """The same from another event loop; cancelling the wait stops it. On the bridge's own loop it is just awaited."""
    if _is_here():
        return await work
    begun = _begin(work)
    try:
        return await asyncio.wrap_future(begun.done)
    finally:
        begun.stop()


def iterate(make: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """Yield what an asynchronous generator yields, as it comes; leaving closes it. Raises as `run` does."""
    if _is_here():
        raise RuntimeError("Iterated synchronously on the bridge's own loop: use `async for` instead.")
    chunks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    begun = _begin(_pump(make, chunks.put))
    try:
        while (item := chunks.get()) is not _END:
            yield item
        begun.done.result()
    finally:
        begun.stop()


async def follow(make: Callable[[], AsyncIterator[T]]) -> AsyncIterator[T]:
    """The same for another event loop; on the bridge's own, the generator itself."""
    if _is_here():
        async with aclosing(make()) as items:  # type: ignore[type-var]
            async for item in items:
                yield item
        return
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[Any] = asyncio.Queue()
    begun = _begin(_pump(make, lambda item: loop.call_soon_threadsafe(chunks.put_nowait, item)))
    try:
        while (item := await chunks.get()) is not _END:
            yield item
        await asyncio.wrap_future(begun.done)
    finally:
        begun.stop()


async def _pump(make: Callable[[], AsyncIterator[T]], put: Callable[[Any], object]) -> None:
    try:
        async with aclosing(make()) as items:  # type: ignore[type-var]
            async for item in items:
                put(item)
    finally:
        put(_END)


@dataclass(slots=True)
class _Begun(Generic[T]):
    """Work on the bridge's loop: what it comes to, and its task once it has one."""

    done: "Future[T]"
    task: "asyncio.Task[T] | None" = None

    def stop(self) -> None:
        """Cancel it unless it has ended. The loop takes calls in order, so its task is there by then."""
        if self.task is None or not self.task.done():
            _loop().call_soon_threadsafe(lambda: self.task.cancel() if self.task is not None else None)


def _is_here() -> bool:
    try:
        return asyncio.get_running_loop() is _loop()
    except RuntimeError:
        return False


def _begin(work: Coroutine[Any, Any, T]) -> _Begun[T]:
    begun: _Begun[T] = _Begun(Future())
    begun.done.set_running_or_notify_cancel()  # whoever waits may leave; only the task settles it

    def begin() -> None:
        begun.task = asyncio.ensure_future(work)
        begun.task.add_done_callback(lambda ended: _settle(ended, begun.done))

    # `call_soon_threadsafe` takes the context that LangChain and LangGraph keep the run's configuration in.
    _loop().call_soon_threadsafe(begin, context=contextvars.copy_context())
    return begun


def _settle(task: "asyncio.Task[T]", done: "Future[T]") -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())


class BridgedRunnable(Runnable[Given, Made]):
    """A Runnable that is written asynchronously (`ainvoke`, `astream`) and is called from anywhere."""

    def invoke(self, input: Given, config: RunnableConfig | None = None, **kwargs: Any) -> Made:
        """See `ainvoke`."""
        return run(self.ainvoke(input, config, **kwargs))

    def stream(self, input: Given, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Made]:
        """See `astream`."""
        return iterate(lambda: self.astream(input, config, **kwargs))

    async def abatch(
        self,
        inputs: list[Given],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Made]:
        """Handle several inputs concurrently, as many at once as the configuration's `TURNS` allow."""
        configs = get_config_list(config, len(inputs)) if inputs else []
        turns: Turns | None = configs[0].get("configurable", {}).get(TURNS) if configs else None
        if turns is None:
            return await super().abatch(inputs, config, return_exceptions=return_exceptions, **kwargs)

        async def handle(input: Given, config: RunnableConfig) -> Made:
            async with turns():
                try:
                    return await self.ainvoke(input, config, **kwargs)
                except Exception as error:  # by any Runnable; LangChain returns it in place of the output
                    if not return_exceptions:
                        raise
                    return cast(Made, error)

        try:
            async with asyncio.TaskGroup() as group:
                work = []
                for each in zip(inputs, configs, strict=True):
                    work.append(group.create_task(handle(*each)))
                    await asyncio.sleep(0)  # other tasks run between the starts, each of which takes a millisecond
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in work]
