"""Suspends owners whose requests end the built-in engine, so that the engine stays available to the others.

Invariants: an owner's record starts only with the end of an engine that worked for no other owner. A suspension is
short at first and grows with each further end. The record is forgotten after a time without one.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wire.errors import RateLimited

__all__ = ["OwnerSuspended", "Suspensions"]

_FIRST_S: Final = 60.0
_MAX_SUSPENSION_S: Final = 600.0
_FORGOTTEN_S: Final = 1_800.0
"""How long an owner's record lasts after its last engine end."""

_log = logging.getLogger("threadhold.engine")


class OwnerSuspended(RateLimited):
    """The owner's requests are refused for another `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(
            f"Your request ended the built-in engine. To stay available to others, the engine accepts your requests "
            f"again in {self.seconds} s. Do not repeat that request unchanged: shorten its prompt or "
            "simplify its schema."
        )


@dataclass(frozen=True, slots=True)
class _Record:
    ends: int
    at: float


class Suspensions:
    """Counts engine ends per owner. `clock` returns monotonic seconds."""

    def __init__(self, *, is_shared: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Without `is_shared` there is one owner only, who is never suspended."""
        self._is_shared = is_shared
        self._clock = clock
        self._records: dict[str, _Record] = {}

    def count(self, owner: str) -> None:
        """Count an end of the engine that this owner's request caused."""
        if not self._is_shared:
            return
        ends = self._records[owner].ends + 1 if self.has_recent_crash(owner) else 1
        self._records[owner] = _Record(ends, self._clock())
        _log.warning("requests of owner `%s` to the built-in engine are refused for %.0f s", owner, _lasts_s(ends))

    def has_recent_crash(self, owner: str) -> bool:
        """Return whether a request of this owner has ended an engine recently."""
        record = self._records.get(owner)
        return record is not None and self._clock() < record.at + _FORGOTTEN_S

    def check(self, owner: str) -> None:
        """Raise OwnerSuspended while the owner is suspended."""
        record = self._records.get(owner)
        if record is not None and (left_s := record.at + _lasts_s(record.ends) - self._clock()) > 0:
            raise OwnerSuspended(left_s)


def _lasts_s(ends: int) -> float:
    return min(_MAX_SUSPENSION_S, _FIRST_S * 2.0 ** min(ends - 1, 10))
