"""Readiness checks: the store accepts writes, the disk has free space, and the upstreams answer.

Invariants: failures and recoveries show within seconds. However many clients ask, checks run at most twice a second,
and after a failure at most once in two seconds. Each check ends in limited time. Each change is logged in one line.
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
_RETRY_S: Final = 2.0
"""The interval after a failure: what hangs or refuses gets a pause."""
_STORE_S: Final = 2.0
_DISK_S: Final = 2.0
_UPSTREAM_S: Final = 6.0


class Readiness:
    """The checks of one server, and their latest results. Its owner closes it."""

    def __init__(self, deps: Deps, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.warnings: Mapping[str, str] = {} if deps.embedder is not None else {"embeddings": words_only_notice()}
        """Missing optional part → what that means, and how to install the part."""
        self._deps = deps
        self._clock = clock
        self._found: dict[str, str | None] = {}
        self._found_at = float("-inf")
        self._checking: asyncio.Task[None] | None = None

    async def checks(self) -> Mapping[str, str | None]:
        """Return what is wrong by check, None for a check that passed. Concurrent calls share the result.

        A call that is cancelled stops no check: clients that ask and leave would cause more of them.
        """
        if self._checking is None or (self._checking.done() and self._is_stale()):
            self._checking = asyncio.create_task(self._check(), name="readiness")
        await asyncio.shield(self._checking)
        return self._found

    async def aclose(self) -> None:
        """End the checks that are in progress."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait((self._checking,))

    def _is_stale(self) -> bool:
        fresh_s = _RETRY_S if any(self._found.values()) else _FRESH_S
        return self._clock() - self._found_at > fresh_s

    async def _check(self) -> None:
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
        self._log_changes(found)
        self._found, self._found_at = found, self._clock()

    def _log_changes(self, found: dict[str, str | None]) -> None:
        for name, wrong in found.items():
            before = self._found.get(name)
            if wrong and not before:
                logger.warning("not ready: %s: %s", name, wrong)
            elif before and not wrong:
                logger.info("ready again: %s", name)

    async def _store(self) -> str | None:
        """Make an empty, synced commit, which fails on a full disk or a locked database."""
        try:
            await self._deps.health.probe()
        except StoreError as error:
            return error.message
        return None

    async def _disk(self) -> str | None:
        for folder in self._deps.disks.folders:
            try:
                free = await asyncio.to_thread(free_bytes, folder)
            except OSError as error:
                return f"the free space of `{folder}` cannot be determined: {error.strerror}"
            if free < MIN_FREE_BYTES:
                minimum = MIN_FREE_BYTES >> 20
                return (
                    f"{free >> 20} MB are free for `{folder}`; at least {minimum} MB are needed. Free some space there."
                )
        return None


async def _in_time(name: str, limit_s: float, check: Awaitable[str | None]) -> str | None:
    try:
        async with asyncio.timeout(limit_s):
            return await check
    except TimeoutError:
        return f"{name} did not answer within {limit_s:g} s"
