"""Removes bytes that no row refers to, and rewrites what an older version indexed, in the background.

Invariant: each is done by one process at a time. Bytes that another process can be about to refer to are kept.
"""

import asyncio
import logging
import time
from typing import Final

from store.ports import Blobs, FileQueries, Processes, Vectors
from wire.errors import StoreError

__all__ = ["IndexMaintenance"]

logger = logging.getLogger("threadhold.ingestion")

_DAY_S: Final = 86_400.0


class IndexMaintenance:
    """The work of `sweep_forever` and `refresh`, which the caller runs as tasks."""

    def __init__(
        self, file_queries: FileQueries, blobs: Blobs, vectors: Vectors, processes: Processes, *, retry_s: float
    ) -> None:
        """After an error of the store, the work is repeated after `retry_s`."""
        self._file_queries = file_queries
        self._blobs = blobs
        self._vectors = vectors
        self._processes = processes
        self._retry_s = retry_s
        self.outdated = 0
        """Files whose words are still indexed in an older version's form."""

    async def start(self) -> None:
        """Remove what a crash left. Call this before anything is written. Raises StoreError."""
        # Without other processes, nothing is being written: bytes without a row are from a dead process.
        await self._sweep(0.0 if self._processes.liveness.is_single_process else _DAY_S)

    async def sweep_forever(self) -> None:
        """Once a day, remove bytes that are older than a day and that no row refers to."""
        while True:
            await asyncio.sleep(_DAY_S)
            try:
                await self._sweep(_DAY_S)
            except StoreError as error:
                logger.error("unused blobs could not be removed: %s", error)

    async def _sweep(self, min_age_s: float) -> None:
        if await self._processes.leadership.is_leader("blobs"):
            left = await self._blobs.sweep(self._file_queries.unknown, min_age_s=min_age_s)
            if left:
                logger.info("removed %d blobs that a crash left", left)

    async def refresh(self) -> None:
        """Rewrite, once, the words that an older version indexed."""
        while True:
            try:
                if await self._processes.leadership.is_leader("reindexing"):
                    await self._rewrite()
                    return
            except StoreError as error:
                logger.error("the index could not be rewritten, next try in %g s: %s", self._retry_s, error)
            await asyncio.sleep(self._retry_s)

    async def _rewrite(self) -> None:
        total, since = 0, time.monotonic()
        async for left in self._vectors.refresh():
            self.outdated = left
            if left > total:
                total = left
                logger.info("rewriting the word index in the background, files left: %d; searches continue", total)
        if total:
            logger.info("rewrote the word index, files: %d, seconds: %.1f", total, time.monotonic() - since)
