"""Values that belong to one event loop, for modules and objects that several loops use."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One value for each event loop, made when that loop first asks for it, and dropped with the loop."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    def get(self) -> T:
        """Return the value of the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._values.get(loop)
        if found is None:
            found = self._values[loop] = self._make()
        return found
