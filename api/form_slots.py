"""Limits how many forms are received at the same time, because each keeps half a megabyte until it is on disk.

Invariant: a form waits for a slot after its first block, and the connection then reads little more of it. Where
there are several owners, one of them can have half of all slots.
"""

from typing import Final

from starlette.types import Message, Receive

from fairness.fair_limits import FairLimit

__all__ = ["MAX_FORMS", "FormSlot"]

MAX_FORMS: Final = 512


class FormSlot:
    """The slot of one request. Call `release` when the request has ended."""

    def __init__(self, limit: FairLimit, owner: str) -> None:
        self._limit = limit
        self._owner = owner
        self._has_slot = False

    def receiver(self, receive: Receive) -> Receive:
        """Return a `receive` that returns the first block when the form has a slot."""

        async def receive_with_slot() -> Message:
            message = await receive()
            if not self._has_slot and message.get("more_body"):  # else it is a short form, or the client has left
                await self._limit.acquire(self._owner)
                self._has_slot = True
            return message

        return receive_with_slot

    def release(self) -> None:
        """Release the slot."""
        if self._has_slot:
            self._has_slot = False
            self._limit.release(self._owner)
