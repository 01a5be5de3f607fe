"""Implements the ports of several processes for a store's only process, which does everything."""

from collections.abc import Awaitable, Callable

from store.ports import Processes, SharedTask, Store, Topic, Unfinished
from wire.events import Event

__all__ = ["single_process"]


def single_process(store: Store) -> Processes:
    """Return the ports for the only process of this store."""
    only = _SingleProcess(store)
    return Processes(liveness=only, run_queue=only, tail=only, notifications=only, leadership=only)


class _SingleProcess:
    """See the protocols in `store.ports.processes`."""

    is_single_process = True

    def __init__(self, store: Store) -> None:
        self._store = store

    def on_loss(self, stop: Callable[[], Awaitable[None]]) -> None:
        """No other process declares the only one dead."""

    async def is_progressing(self, run_id: str) -> bool:  # noqa: ARG002
        return False

    async def runs(self) -> list[Unfinished]:
        return [run for run in await self._store.unfinished() if run.status != "requires_action"]

    async def next(self, run_id: str, after: int) -> list[Event]:  # noqa: ARG002
        return []

    def subscribe(self, topic: Topic, wake: Callable[[], None]) -> None:
        """Do nothing: no other process commits."""

    async def is_leader(self, task: SharedTask) -> bool:  # noqa: ARG002
        return True
