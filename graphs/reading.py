"""Reads the histories of starting runs, and counts each as memory of its owner's runs while it is read.

Invariant: if the memory is not free, a new run's history is read only when it is the owner's turn, and a continued
run's history only when the run leaves the queue.
"""

from contextlib import ExitStack
from typing import Any

from graphs.active_run import ActiveRun
from graphs.admission import Admission, weigh
from graphs.machine.state import RunContext
from graphs.run_context import RunContexts
from graphs.run_memory import entries_memory, exchange_memory
from graphs.start_errors import HeavyStart
from graphs.tools.toolset import ToolSet
from store.ports import Page, Row

__all__ = ["count_reading", "read_if_free"]


def count_reading(turns: Admission, owner: str, first: Page, *, its_turn: bool) -> ExitStack:
    """Count the memory of a history that begins with the page `first`, until the result is closed.

    Raises HeavyStart if the memory is not free, unless it is the owner's turn.
    """
    memory = turns.unread if first.has_more else entries_memory(first.rows)
    if not its_turn and not turns.has_memory(owner, memory):
        raise HeavyStart
    read = ExitStack()
    read.enter_context(turns.reading(owner, memory))
    return read


async def read_if_free(
    turns: Admission, contexts: RunContexts, live: ActiveRun, row: Row, toolset: ToolSet, given: dict[str, Any]
) -> RunContext | None:
    """Read what a run needs to continue with its outputs; None if it has to wait. Sets `weight` and `memory` of
    `live`."""
    exchange = exchange_memory(row.private.get("exchange_bytes", 0) + sum(map(len, given.values())))
    live.weight = weigh(row.body)
    live.memory = row.private.get("memory", turns.unread) + exchange
    if not turns.free(live.owner, live.weight, live.memory):
        return None
    with turns.reading(live.owner, live.memory):
        context = await contexts.again(live, row, toolset)
    live.memory = live.history_memory + exchange
    return context if turns.free(live.owner, live.weight, live.memory) else None
