"""The allowed status transitions of a run. Source: OpenAI's spec and documentation (docs/from-openai.md has a table).

The store makes every transition by compare-and-set: the row's status must be one of `sources(target)`.

    queued          → in_progress      the runner starts it
    in_progress     → requires_action  the client must send function outputs or approvals
    requires_action → queued           one request sent all tool outputs
    in_progress     → completed        the model answered
    in_progress     → incomplete       a token budget or the content filter ended the answer
    queued, in_progress, requires_action → cancelling   `cancel` was called
    cancelling      → cancelled        the upstream is stopped, open messages and steps are closed
    any active      → failed           with `last_error`
    any active      → expired          `expires_at` has passed
"""

from typing import Final, Literal, get_args

__all__ = ["ACTIVE", "TERMINAL", "TRANSITIONS", "RunEnd", "Status", "can_transition", "sources"]

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

RunEnd = Literal["completed", "incomplete", "failed", "cancelled", "expired"]
"""Statuses that end a run."""

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
"""Status → the statuses that can follow it."""

TERMINAL: Final = frozenset(status for status, targets in TRANSITIONS.items() if not targets)
"""Statuses that never change."""

ACTIVE: Final = frozenset(get_args(Status)) - TERMINAL
"""Statuses that lock the thread."""


def can_transition(source: Status, target: Status) -> bool:
    """Return whether the table allows the transition."""
    return target in TRANSITIONS[source]


def sources(target: Status) -> frozenset[Status]:
    """Return the statuses from which one transition leads to `target`."""
    return frozenset(source for source, targets in TRANSITIONS.items() if target in targets)
