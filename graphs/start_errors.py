"""The reasons why a run cannot start, or cannot start yet, as API errors."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

import orjson

from fairness.fair_limits import FairLimit
from wire.errors import InvalidRequest, MissingRow, NotFound, ThreadBusy
from wire.json import JsonView

__all__ = ["StartDeferred", "busy", "no_assistant", "refused", "require_slot", "start_with_slot"]

T = TypeVar("T")

_LIGHT_BYTES: Final = 128 * 1024
"""Runs of larger assistants start one at a time, so waiting starts hold no copies of them."""


class StartDeferred(Exception):
    """The run can start only with a slot of its owner: its assistant is large, or no memory is free for its history."""


def require_slot(assistant: JsonView, *, has_slot: bool) -> None:
    """Raise StartDeferred for a large assistant without a slot."""
    if not has_slot and len(orjson.dumps(assistant)) > _LIGHT_BYTES:
        raise StartDeferred


async def start_with_slot(starts: FairLimit, owner: str, start: Callable[..., Awaitable[T]]) -> T:
    """Return what `start` does. If it raises StartDeferred, repeat it with a slot of the owner in `starts`."""
    with suppress(StartDeferred):
        return await start()
    async with starts.slot(owner):  # outside of `except`: the exception's frames hold the assistant
        return await start(has_slot=True)


@contextmanager
def refused() -> Iterator[None]:
    """Translate the store's refusal of a new run. Raises InvalidRequest, NotFound."""
    try:
        yield
    except ThreadBusy as error:
        raise busy(error) from error
    except MissingRow as missing:
        raise NotFound(missing.message) from missing


def busy(error: ThreadBusy) -> InvalidRequest:
    """Return the error for a thread that has an active run."""
    return InvalidRequest(f"Thread {error.thread_id} already has an active run {error.run_id}.")


def no_assistant(assistant_id: str) -> NotFound:
    """Return the error for an assistant that does not exist."""
    return NotFound(f"No assistant found with id '{assistant_id}'.")
