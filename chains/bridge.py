"""The one bridge from synchronous callers to our asynchronous code; nothing has a synchronous twin.

One event loop in a thread of its own serves all of them. Context variables go along, and a caller that stops reading
closes the asynchronous generator that it read from.
"""

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import aclosing
from functools import cache
from typing import Any, Final, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig

__all__ = ["BridgedRunnable", "iterate", "run"]

T = TypeVar("T")
Given = TypeVar("Given")
Made = TypeVar("Made")

_END: Final = object()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="threadhold-bridge", daemon=True).start()
    return loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the bridge's loop, and wait for what it returns or raises."""
    done: Future[T] = Future()
    _begin(work, done)
    try:
        return done.result()
    except BaseException:
        done.cancel()
        raise


def iterate(make: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """Yield what an asynchronous generator yields, as it comes; leaving closes it."""
    chunks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    done: Future[None] = Future()
    tasks: list[asyncio.Task[None]] = []

    async def pump() -> None:
        try:
            async with aclosing(make()) as items:  # type: ignore[type-var]
                async for item in items:
                    chunks.put(item)
        finally:
            chunks.put(_END)

    _begin(pump(), done, tasks)
    try:
        while (item := chunks.get()) is not _END:
            yield item
        done.result()
    finally:
        for task in tasks:
            _loop().call_soon_threadsafe(task.cancel)


def _begin(work: Coroutine[Any, Any, T], done: "Future[T]", tasks: list["asyncio.Task[T]"] | None = None) -> None:
    def begin() -> None:
        task = asyncio.ensure_future(work)
        if tasks is not None:
            tasks.append(task)
        task.add_done_callback(lambda ended: _settle(ended, done))

    # `call_soon_threadsafe` takes the context that LangChain and LangGraph keep the run's configuration in.
    _loop().call_soon_threadsafe(begin, context=contextvars.copy_context())


def _settle(task: "asyncio.Task[T]", done: "Future[T]") -> None:
    if done.cancelled():
        if not task.cancelled():
            task.exception()  # seen, though nobody waits any more
    elif task.cancelled():
        done.cancel()
    elif (error := task.exception()) is not None:
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
