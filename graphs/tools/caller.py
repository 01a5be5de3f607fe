"""Loads the caller of actions with the first call, as most servers never make one.

Its HTTP client, its trust store and what these import (trio, if it is installed) take 6 MB and 60 ms.
"""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from graphs.tools.operations import Operation

__all__ = ["Caller", "LateCaller"]


class Caller(Protocol):
    """Makes calls of actions: `graphs.tools.actions.ActionCaller`, or one that is loaded later."""

    async def call(self, operation: Operation, arguments: str, *, call_id: str) -> str:
        """Return the text for the model; see `ActionCaller.call`."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class LateCaller:
    """An ActionCaller with these settings, made in a thread at the first call."""

    def __init__(self, *, allow_hosts: Iterable[str] = (), timeout_s: float = 30.0, max_bytes: int = 65_536) -> None:
        self._allow_hosts = tuple(allow_hosts)
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._caller: Caller | None = None
        self._making = asyncio.Lock()

    async def call(self, operation: Operation, arguments: str, *, call_id: str) -> str:
        """Return the text for the model; see `ActionCaller.call`."""
        async with self._making:
            if self._caller is None:
                self._caller = await asyncio.to_thread(self._make)
        return await self._caller.call(operation, arguments, call_id=call_id)

    async def close(self) -> None:
        """Close every connection; calls that are still waiting fail."""
        if self._caller is not None:
            await self._caller.close()

    def _make(self) -> Caller:
        from graphs.tools.actions import ActionCaller

        return ActionCaller(allow_hosts=self._allow_hosts, timeout_s=self._timeout_s, max_bytes=self._max_bytes)
