"""Resources that are opened on first use and closed once, all on the bridge's loop.

One task enters the context and leaves it again, as task groups inside want it; a failed opening is tried anew by the
next that asks.
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
        """Return the value, opened if need be. Raises Unavailable once closed, or whatever opening raises."""
        if self._closed:
            raise Unavailable("This graph is closed. Build another one, or close it later.")
        if self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()
            self._leave = asyncio.Event()
            self._task = asyncio.create_task(self._keep(self._opened, self._leave))
        return await asyncio.shield(self._opened)

    async def close(self) -> None:
        """Leave the context, if it was entered; waits for that. Further calls change nothing."""
        self._closed = True
        if self._task is not None and self._leave is not None:
            self._leave.set()
            await asyncio.shield(self._task)

    async def _keep(self, opened: "asyncio.Future[T]", leave: asyncio.Event) -> None:
        try:
            async with self._make() as value:
                opened.set_result(value)
                await leave.wait()
        except Exception as error:  # whoever asked is told, not this task's owner
            if opened.done():
                raise
            self._opened = self._task = None
            opened.set_exception(error)
            opened.exception()  # seen, also where nobody waits any more
