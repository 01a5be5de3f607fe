"""Limits how many forms are received at the same time, because each keeps half a megabyte until it is on disk.

Invariant: a form waits for its turn after its first block, and the connection then reads little more of it. Owners take
turns; where there are several, one of them can have half of all turns.
"""

from typing import Final

from starlette.types import Message, Receive

from telemetry.shares import Shares

__all__ = ["MOST_FORMS", "FormTurn"]

MOST_FORMS: Final = 512


class FormTurn:
    """The turn of one request. Call `release` when the request has ended."""

    def __init__(self, turns: Shares, owner: str) -> None:
        self._turns = turns
        self._owner = owner
        self._has_turn = False

    def receiver(self, receive: Receive) -> Receive:
        """Return a `receive` that returns the first block when it is the form's turn."""

        async def receive_in_turn() -> Message:
            message = await receive()
            if not self._has_turn and message.get("more_body"):  # else it is a short form, or the client has left
                await self._turns.acquire(self._owner)
                self._has_turn = True
            return message

        return receive_in_turn

    def release(self) -> None:
        """End the turn."""
        if self._has_turn:
            self._has_turn = False
            self._turns.release(self._owner)
