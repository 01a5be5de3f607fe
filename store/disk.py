"""Runs calls that wait for the disk in threads that owners share. Failures become the store's errors."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, ParamSpec, TypeVar

from fairness.fair_limits import DISK
from store.os_errors import os_failure
from telemetry.context import current_owner
from wire.errors import StoreFailed

__all__ = ["Disk"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk for one kind of data; `failure` describes what failed, before the system's reason."""

    failure: str

    async def call(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `work` in a thread. Raises StoreFailed if the disk fails."""
        try:
            return await DISK.run(current_owner(), work, *args, **kwargs)
        except OSError as error:
            raise os_failure(self.failure, error) from error

    async def open(self, opens: Callable[P, IO[bytes]], *args: P.args, **kwargs: P.kwargs) -> IO[bytes]:
        """Open a file. If the caller is cancelled meanwhile, the file is closed. Raises StoreFailed."""
        opening = asyncio.ensure_future(self.call(opens, *args, **kwargs))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with suppress(StoreFailed):
                (await opening).close()
            raise
