"""The table of run statuses, for every pair."""

from itertools import product
from typing import get_args

import pytest

from wire.status import ACTIVE, TERMINAL, TRANSITIONS, Status, can_transition, sources

STATUSES = get_args(Status)

MOVES = {
    ("queued", "in_progress"),
    ("in_progress", "requires_action"),
    ("requires_action", "queued"),
    ("in_progress", "completed"),
    ("in_progress", "incomplete"),
    ("queued", "cancelling"),
    ("in_progress", "cancelling"),
    ("requires_action", "cancelling"),
    ("cancelling", "cancelled"),
    *product(("queued", "in_progress", "requires_action", "cancelling"), ("failed", "expired")),
}


@pytest.mark.parametrize(("source", "target"), list(product(STATUSES, STATUSES)), ids=lambda status: status)
def test_a_run_s_status_changes_only_along_the_table(source: Status, target: Status) -> None:
    assert can_transition(source, target) is ((source, target) in MOVES)
    assert (source in sources(target)) is ((source, target) in MOVES)


def test_terminal_statuses_are_final_and_active_ones_lock_the_thread() -> None:
    assert {"completed", "incomplete", "failed", "cancelled", "expired"} == TERMINAL
    assert set(TRANSITIONS) == ACTIVE | TERMINAL
    assert {"queued", "in_progress", "requires_action", "cancelling"} == ACTIVE
