"""Counts requests and schedules their starts fairly by group, so that one group's requests, however many, delay those
of others only slightly.

Invariants: every request belongs to one group and is counted in it from its arrival to its end. A request that needs
nothing but the event loop (such as one for an unknown path) waits for no other shared resource. Without a scheduler,
all connections of one owner would start such requests in the same iteration of the loop, and all other requests would
wait for them in each iteration. Refusals are scheduled, too. A request that waits for its refusal is not counted, but a
new connection can replace the connection of this request.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakMethod

from fairness.loop_scheduler import LoopScheduler
from fairness.per_loop import PerLoop
from wire.errors import TooManyRequests

if TYPE_CHECKING:  # the port opens before Starlette is imported
    from starlette.types import Scope

    from api.connection_limit import ConnectionLimit

__all__ = ["GROUP", "ON_REFUSAL", "CountedRequest", "Group", "call_in_turn", "request_scheduler"]

GROUP: Final = "group"
"""The key of a request's state that holds its group."""

ON_REFUSAL: Final = "on_refusal"
"""The key of a request's state that holds a weak reference to a method of its connection. The method records that the
request only waits for its refusal."""

_STARTS: Final = 3
"""Requests that start in one iteration of the event loop, each of which takes 0.3 to 1 ms there."""

_SCHEDULERS: Final = PerLoop(lambda: LoopScheduler(_STARTS))


class Group(NamedTuple):
    """Requests that share connections and starts with the other groups: an owner's, those without a key, or probes."""

    owner: str = ""
    """Empty for requests without a key, and for probes."""

    is_probe: bool = False

    is_alone: bool = False
    """Whether there is only one owner, who can use what the other groups leave."""


class CountedRequest:
    """Counts one request in the server's limit of connections, and schedules its start."""

    def __init__(self, scope: "Scope") -> None:
        self._scope = scope
        self._counted: tuple[ConnectionLimit, Group] | None = None

    async def start(self, group: Group) -> None:
        """Count the request, and wait until it can start. Raises TooManyRequests when it is the request's turn to be
        refused."""
        self._scope.setdefault("state", {})[GROUP] = group
        # None if the app runs in process
        limit: ConnectionLimit | None = getattr(self._scope["app"].state, "connection_limit", None)
        if limit is not None:
            try:
                limit.admit(group)
            except TooManyRequests:
                await self._wait_for_refusal(group)
                raise
            self._counted = limit, group
        await request_scheduler().wait_to_start(group.owner, group)

    def end(self) -> None:
        """Record that the request has its response, or that its client has disconnected."""
        if self._counted is not None:
            limit, group = self._counted
            self._counted = None
            limit.leave(group)

    async def _wait_for_refusal(self, group: Group) -> None:
        reference: WeakMethod[Callable[[], None]] | None = self._scope["state"].get(ON_REFUSAL)
        note = None if reference is None else reference()
        if note is not None:
            note()
        await request_scheduler().wait_to_start(group.owner, (group, "refused"))


def call_in_turn(owner: str, refuse: Callable[[], None]) -> "asyncio.Future[None]":
    """Call `refuse`, which refuses a request of `owner`, when it is its turn; cancel the result to prevent the call."""
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    turn.add_done_callback(lambda turn: None if turn.cancelled() else refuse())
    request_scheduler().wake(owner, "refused", [turn])
    return turn


def request_scheduler() -> LoopScheduler:
    """Return the scheduler of the running event loop."""
    return _SCHEDULERS.get()
