"""Loads the caller of actions with the first call, as most servers never make one.

Its HTTP client, its trust store and what these import (trio, if it is installed) take 6 MB and 60 ms.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from graphs.tools.operations import Operation
from graphs.tools.resources import Resource, ToolDeps

__all__ = ["CALLER", "ActionOptions", "Caller", "LazyCaller"]


@dataclass(frozen=True, slots=True)
class ActionOptions:
    """The settings of actions; see `graphs.tools.action_caller.ActionCaller`."""

    allow_hosts: Sequence[str] = ()
    timeout_s: float = 30.0
    max_bytes: int = 65_536


class Caller(Protocol):
    """Makes calls of actions: `graphs.tools.action_caller.ActionCaller`, or one that is loaded later."""

    async def call(self, operation: Operation, arguments: str, *, call_id: str) -> str:
        """Return the text for the model; see `ActionCaller.call`."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class LazyCaller:
    """An ActionCaller with these settings, made in a thread at the first call."""

    def __init__(self, options: ActionOptions) -> None:
        self._options = options
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
        from graphs.tools.action_caller import ActionCaller

        options = self._options
        return ActionCaller(allow_hosts=options.allow_hosts, timeout_s=options.timeout_s, max_bytes=options.max_bytes)


@asynccontextmanager
async def _open_caller(deps: ToolDeps) -> AsyncIterator[Caller]:
    caller = LazyCaller(deps.option(ActionOptions))
    try:
        yield caller
    finally:
        await caller.close()


CALLER: Final = Resource(_open_caller)
"""The caller of actions."""
