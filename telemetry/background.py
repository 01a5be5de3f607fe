"""The outermost frames of background tasks: an unexpected error is logged, and ends neither other tasks nor the server.

A task of a TaskGroup that fails cancels all others of the group, and these groups exist as long as the server does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

__all__ = ["log_errors", "restart_on_error"]

logger = logging.getLogger("threadhold")

_RETRY_S: Final = 5.0


async def log_errors(what: str, work: Callable[[], Awaitable[None]], *, pause_s: float = 0.0) -> None:
    """Run `work`, and log its error if it fails. `what` names the work in the log.

    `work` is a function, not a coroutine: a task that is cancelled before it starts would leave a coroutine unawaited.

    After an error, it returns `pause_s` later, so that a caller that starts the work again does not do so continuously.
    """
    try:
        await work()
    except Exception:  # the outermost frame of a task
        logger.exception("%s failed unexpectedly", what)
        await asyncio.sleep(pause_s)


async def restart_on_error(work: Callable[[], Awaitable[None]], *, retry_s: float = _RETRY_S) -> None:
    """Run background work until it returns; start it again after an unexpected error."""
    while True:
        try:
            await work()
        except Exception:  # the outermost frame of a task
            logger.exception("%s failed unexpectedly, next try in %g s", getattr(work, "__qualname__", work), retry_s)
            await asyncio.sleep(retry_s)
        else:
            return
