"""Backpressure for LangChain's logs and events of a stream (`astream_log`, `astream_events`).

LangChain reads a stream in a task of its own. It queues its reports of each chunk without a limit, however slowly the
queue is read, and each entry of a log repeats the whole text so far. Invariants: the source of a `BackpressureRunnable`
waits until all reports of its last chunk are read. It is cancelled when the reader leaves. With pieces from
`grow_pieces`, the size of a log is linear in the text's length.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from contextvars import Context, copy_context
from typing import Any, Final, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config

from chains.disconnect import on_disconnect

__all__ = ["BackpressureRunnable", "Reader", "context_without_reader", "find_reader", "grow_pieces"]

T = TypeVar("T")
Input = TypeVar("Input")
Output = TypeVar("Output")

_READER: Final = "__reader"  # LangChain does not show names that start with these underscores

_PARTS: Final = 32
"""A piece is at least this fraction of the text before it (1/32), so a log repeats each character about 32 times."""


class BackpressureRunnable(Runnable[Input, Output]):
    """A Runnable whose logs and events are bounded. Its source awaits the reader that `find_reader` returns, first and
    after each chunk."""

    # `Any` as in LangChain's own signatures, which are overloaded.

    async def astream_log(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Yield the log of a stream as LangChain does."""
        reader = Reader(logs=True)
        log: AsyncIterator[object] = super().astream_log(input, reader.added_to(config), **kwargs)
        async for patch in reader.follow(log):
            yield patch

    def astream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return the events of a stream, or for version "v3" an awaitable, as LangChain does."""
        reader = Reader()
        events = super().astream_events(input, reader.added_to(config), **kwargs)
        return reader.follow(events) if isinstance(events, AsyncIterator) else events


def find_reader(config: RunnableConfig | None) -> "Reader | None":
    """Return the reader of this stream's log or events; None if the stream itself is read."""
    reader: Reader | None = (config or {}).get("configurable", {}).get(_READER)
    return reader


def context_without_reader() -> Context:
    """Return a copy of this context in which nothing is reported to a log or to events.

    LangChain passes their handlers in the context. A task that does not wait for the reader must not report to it.
    """
    context = copy_context()
    context.run(var_child_runnable_config.set, None)
    return context


async def grow_pieces(texts: AsyncIterator[str]) -> AsyncIterator[str]:
    """Join texts into pieces that grow with the length of the text before them, so that a log of N characters repeats
    `O(_PARTS*N)` of them. If text arrives steadily, it is held back for at most a thirty-second of the time since the
    start."""
    emitted, held, pieces = 0, 0, list[str]()
    async for text in texts:
        pieces.append(text)
        held += len(text)
        if held * _PARTS >= emitted:
            yield "".join(pieces)
            emitted, held, pieces = emitted + held, 0, []
    if held:
        yield "".join(pieces)


class Reader:
    """The reader of a log or of events, as seen by their source."""

    def __init__(self, *, logs: bool = False) -> None:
        """`logs` is true if a log is read."""
        self.logs = logs
        self._waits = asyncio.Event()
        """Set while the reader waits for the next item."""
        self._source: asyncio.Task[object] | None = None
        self._left = False
        self._acts: list[Callable[[], None]] = []

    def added_to(self, config: RunnableConfig | None) -> RunnableConfig:
        """Return the configuration with this reader, for `find_reader`."""
        added: RunnableConfig = {**(config or {})}
        added["configurable"] = {**added.get("configurable", {}), _READER: self}
        return added

    def on_leave(self, act: Callable[[], None]) -> None:
        """Call `act` when the reader has left or has read everything."""
        self._acts.append(act)

    async def wait(self) -> None:
        """Wait until the reader has read all that was queued. Raises CancelledError when it has left."""
        self._source = asyncio.current_task()
        # LangChain queues through the event loop: one iteration fills the queue, the next one wakes the reader.
        for _ in range(2):
            await asyncio.sleep(0)
        while not self._waits.is_set() and not self._left:
            await self._waits.wait()
        if self._left:
            raise asyncio.CancelledError

    async def follow(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        """Yield the items, and record when the reader waits for the next one."""
        # The source ends first, because LangChain waits for it when it closes a log.
        async with aclosing(items) as open_items:  # type: ignore[type-var]
            with on_disconnect(self._leave):
                self._waits.set()
                async for item in open_items:
                    self._waits.clear()
                    yield item
                    self._waits.set()

    def _leave(self) -> None:
        """End the source. LangChain itself does not do so if its reader is cancelled between two items."""
        self._left = True
        for act in self._acts:
            act()
        if self._source is not None:
            self._source.cancel()
