"""The status table of a run: the only moves there are. Source: OpenAI's spec and documents (see README, "Statuses").

Every move is made by compare-and-set in the store: `sources(to)` is what the row's status must be one of.

    queued          → in_progress      the runner takes it up
    in_progress     → requires_action  functions (or approvals) are wanted from the client
    requires_action → queued           all tool outputs came in one request
    in_progress     → completed        the model answered
    in_progress     → incomplete       a token budget or the content filter cut it short
    queued, in_progress, requires_action → cancelling   `cancel` was called
    cancelling      → cancelled        the upstream is stopped, open parts are closed
    any active      → failed           with `last_error`
    any active      → expired          `expires_at` has passed
"""

from typing import Final, Literal, get_args

__all__ = ["ACTIVE", "TERMINAL", "TRANSITIONS", "Status", "may_move", "sources"]

Status = Literal[
    "queued",
    "in_progress",
    "requires_action",
    "cancelling",
    "completed",
    "incomplete",
    "failed",
    "cancelled",
    "expired",
]

TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    "queued": frozenset({"in_progress", "cancelling", "failed", "expired"}),
    "in_progress": frozenset({"requires_action", "completed", "incomplete", "cancelling", "failed", "expired"}),
    "requires_action": frozenset({"queued", "cancelling", "failed", "expired"}),
    "cancelling": frozenset({"cancelled", "failed", "expired"}),
    "completed": frozenset(),
    "incomplete": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
    "expired": frozenset(),
}
"""From each status, the statuses it may move to."""

TERMINAL: Final = frozenset(status for status, targets in TRANSITIONS.items() if not targets)
"""Statuses that nothing leaves."""

ACTIVE: Final = frozenset(get_args(Status)) - TERMINAL
"""Statuses that lock the thread."""


def may_move(source: Status, target: Status) -> bool:
    """Tell whether the table has the move."""
    return target in TRANSITIONS[source]


def sources(target: Status) -> frozenset[Status]:
    """Return the statuses from which `target` may be reached in one move."""
    return frozenset(source for source, targets in TRANSITIONS.items() if target in targets)
