"""Resources that are opened on first use and closed once, all on the bridge's loop.

One task enters the context and exits it, as task groups inside it require. After opening has failed, the next `get`
tries again.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from wire.errors import Unavailable

__all__ = ["LazyResource"]

T = TypeVar("T")


class LazyResource(Generic[T]):
    """An asynchronous context manager's value, held open. Call its methods on one loop only."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._make = make
        self._task: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[T] | None = None
        self._leave: asyncio.Event | None = None
        self._closed = False

    async def get(self) -> T:
        """Return the value, and open it if necessary. Raises Unavailable once closed, or what opening raises."""
        if self._closed:
            raise Unavailable("This graph is closed. Build another one, or close it later.")
        if self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()
            self._leave = asyncio.Event()
            self._task = asyncio.create_task(self._hold_open(self._opened, self._leave))
        return await asyncio.shield(self._opened)

    async def close(self) -> None:
        """Exit the context if it was entered, and wait for that. Further calls change nothing."""
        self._closed = True
        if self._task is not None and self._leave is not None:
            self._leave.set()
            await asyncio.shield(self._task)

    async def _hold_open(self, opened: "asyncio.Future[T]", leave: asyncio.Event) -> None:
        try:
            async with self._make() as value:
                opened.set_result(value)
                await leave.wait()
        except Exception as error:  # the callers of `get` receive it, not this task's owner
            if opened.done():
                raise
            self._opened = self._task = None
            opened.set_exception(error)
            opened.exception()  # marks it as retrieved, even if no caller waits any more
