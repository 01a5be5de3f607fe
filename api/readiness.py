"""Whether the server can do its work: does the store take writes, is there room on the disk, do the upstreams answer.

Laws: what broke is told within seconds, and what came back too; however often and by however many it is asked, nothing
is tried more than twice a second, nor what is wrong more than once in two; each check ends in limited time; a change is
one line of the log.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from api.depends import Deps
from chains.embedders import words_only_notice
from store.free_space import MIN_FREE_BYTES, free_bytes
from wire.errors import StoreError

__all__ = ["Readiness"]

logger = logging.getLogger("threadhold.ready")

_FRESH_S: Final = 0.5
_AGAIN_S: Final = 2.0
"""After something was found to be wrong: what hangs or refuses is left alone for a while."""
_STORE_S: Final = 2.0
_DISK_S: Final = 2.0
_UPSTREAM_S: Final = 6.0


class Readiness:
    """The checks of one server, and their latest results."""

    def __init__(self, deps: Deps, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.warnings: Mapping[str, str] = {} if deps.embedder is not None else {"embeddings": words_only_notice()}
        """Optional part that is missing → what that means and how to install it."""
        self._deps = deps
        self._clock = clock
        self._found: dict[str, str | None] = {}
        self._found_at = float("-inf")
        self._checking = asyncio.Lock()

    async def checks(self) -> Mapping[str, str | None]:
        """Return what is wrong, by check; None where nothing is. Whoever asks meanwhile shares the answer."""
        async with self._checking:
            fresh_s = _AGAIN_S if any(self._found.values()) else _FRESH_S
            if self._clock() - self._found_at > fresh_s:
                found = dict(
                    zip(
                        ("store", "disk", "upstream"),
                        await asyncio.gather(
                            _in_time("the store", _STORE_S, self._store()),
                            _in_time("the disk", _DISK_S, self._disk()),
                            _in_time("the upstream", _UPSTREAM_S, self._deps.upstream.check()),
                        ),
                        strict=True,
                    )
                )
                self._tell(found)
                self._found, self._found_at = found, self._clock()
        return self._found

    def _tell(self, found: dict[str, str | None]) -> None:
        for name, wrong in found.items():
            before = self._found.get(name)
            if wrong and not before:
                logger.warning("not ready: %s: %s", name, wrong)
            elif before and not wrong:
                logger.info("ready again: %s", name)

    async def _store(self) -> str | None:
        """Commit nothing, synced: what a disk that is full or a file that is locked cannot do."""
        try:
            await self._deps.health.probe()
        except StoreError as error:
            return error.message
        return None

    async def _disk(self) -> str | None:
        for folder in self._deps.folders:
            try:
                free = await asyncio.to_thread(free_bytes, folder)
            except OSError as error:
                return f"`{folder}` cannot be looked at: {error.strerror}"
            if free < MIN_FREE_BYTES:
                least = MIN_FREE_BYTES >> 20
                return (
                    f"{free >> 20} MB are free for `{folder}`; at least {least} MB are needed. Make room on that disk."
                )
        return None


async def _in_time(name: str, limit_s: float, check: Awaitable[str | None]) -> str | None:
    try:
        async with asyncio.timeout(limit_s):
            return await check
    except TimeoutError:
        return f"{name} did not answer within {limit_s:g} s"
