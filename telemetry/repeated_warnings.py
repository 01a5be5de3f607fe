"""Warnings about events that clients can cause thousands of times a second.

Invariant: at most one line per minute is logged for a warning, with the number of events since the previous line.
"""

import logging
import math
import time
from collections.abc import Callable
from typing import Final

__all__ = ["RepeatedWarning"]

_EVERY_S: Final = 60.0


class RepeatedWarning:
    """A warning whose events are counted; the first is logged immediately, later ones once a minute.

    `message` ends in a placeholder for the number of events since the last line.
    """

    def __init__(self, logger: logging.Logger, message: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._message = message
        self._clock = clock
        self._logged_at = -math.inf
        self._unlogged = 0

    def add(self, *values: object) -> None:
        """Count an event, and log a line if none was logged for a minute. `values` fill the other placeholders."""
        self._unlogged += 1
        now = self._clock()
        if now - self._logged_at >= _EVERY_S:
            self._logger.warning(self._message, *values, self._unlogged)
            self._logged_at, self._unlogged = now, 0
