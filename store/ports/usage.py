"""The ports of usage: tokens and requests of owners, by UTC day, model, kind and key.

Invariant: a run's usage is a change in the commit that ends the run, so a crash neither loses it nor counts it twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

__all__ = ["DAY_S", "CountUsage", "UsageKind", "UsageQueries", "UsageReport", "UsageRow"]

DAY_S: Final = 86_400

UsageKind = Literal["run", "chat"]
"""`run`: a run that has ended. `chat`: a completion that was passed through, and whose upstream reported its tokens."""


@dataclass(frozen=True, slots=True)
class CountUsage:
    """A change of the store that adds to the usage of an owner. `requests` are calls of the model."""

    owner: str
    at: int
    """Unix s; it counts for the UTC day of this time."""
    model: str
    kind: UsageKind
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    """The part of the input tokens that the model had cached."""
    key_id: str = ""
    """The stored key of the request; empty if it had none."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The sum of a day (its start in Unix s), owner, model, kind and key."""

    day: int
    owner: str
    model: str
    kind: UsageKind
    key_id: str
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


class UsageQueries(Protocol):
    """The usage, for a server."""

    async def usage(self, since: int, until: int) -> list[UsageRow]:
        """Return the rows of the days from `since` to before `until` (Unix s), oldest first."""
        ...


class UsageReport(Protocol):
    """The usage, for an operator's commands; servers can run."""

    def usage(self, since: int, until: int) -> Sequence[UsageRow]:
        """Return what `UsageQueries.usage` returns; none if there is no database yet. Blocks. Raises StoreFailed."""
        ...
