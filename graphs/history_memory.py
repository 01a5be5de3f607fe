"""Reads the histories of starting runs, and counts each as memory of its owner's runs while it is read.

Invariant: if the memory is not free, a new run's history is read only with a slot of the owner, and a continued
run's history only when the run leaves the queue.
"""

from contextlib import ExitStack

import orjson

from graphs.active_run import ActiveRun
from graphs.admission import Admission
from graphs.machine.state import RunContext
from graphs.run_context import RunContexts
from graphs.run_memory import entries_memory, exchange_memory, object_memory
from graphs.start_errors import StartDeferred
from graphs.tools.toolset import ToolSet
from store.ports import Page, RunRow, Store
from wire.errors import NotFound

__all__ = ["count_history_memory", "read_context_if_free", "require_run"]


def count_history_memory(admission: Admission, owner: str, first: Page, *, has_slot: bool) -> ExitStack:
    """Count the memory of a history that begins with the page `first`, until the result is closed.

    Raises StartDeferred if the memory is not free, unless the owner has a slot.
    """
    memory = admission.unread_memory if first.has_more else entries_memory(first.rows)
    if not has_slot and not admission.has_memory(owner, memory):
        raise StartDeferred
    read = ExitStack()
    read.enter_context(admission.count_memory(owner, memory))
    return read


async def read_context_if_free(
    admission: Admission, contexts: RunContexts, active: ActiveRun, row: RunRow, toolset: ToolSet, given: dict[str, str]
) -> RunContext | None:
    """Read what a run needs to continue with its outputs; None if it has to wait. Sets `weight` and `memory` of
    `active`."""
    exchange = exchange_memory(row.private.get("exchange_bytes", 0) + sum(map(len, given.values())))
    active.size = len(orjson.dumps(row.body))
    active.weight = admission.weight_of(active.size)
    active.memory = row.private.get("memory", admission.unread_memory + object_memory(active.size)) + exchange
    if not admission.is_free(active.owner, active.weight, active.memory):
        return None
    with admission.count_memory(active.owner, active.memory):
        context = await contexts.reload(active, row, toolset)
    active.memory = active.history_memory + exchange
    return context if admission.is_free(active.owner, active.weight, active.memory) else None


async def require_run(store: Store, owner: str, thread_id: str, run_id: str) -> RunRow:
    """Return a run's row. Raises NotFound, which names the thread if it does not exist either."""
    row = await store.get("run", run_id, owner, thread_id=thread_id)
    if row is None:
        if await store.get("thread", thread_id, owner) is None:
            raise NotFound(f"No thread found with id '{thread_id}'.")
        raise NotFound(f"No run found with id '{run_id}'.")
    return row
