"""The reasons why a run cannot start, or cannot start yet, as API errors."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import orjson

from telemetry.shares import Shares
from wire.errors import InvalidRequest, Missing, NotFound, ThreadBusy

__all__ = ["HeavyStart", "busy", "no_assistant", "refused", "require_turn", "start_in_turn"]

T = TypeVar("T")

_LIGHT_BYTES: Final = 128 * 1024
"""Larger assistants take turns in starting, so waiting starts hold no copies of them."""


class HeavyStart(Exception):
    """The run can start only in its owner's turn: its assistant is large, or no memory is free for its history."""


def require_turn(assistant: Mapping[str, Any], *, its_turn: bool) -> None:
    """Raise HeavyStart for a large assistant if it is not `its_turn`."""
    if not its_turn and len(orjson.dumps(assistant)) > _LIGHT_BYTES:
        raise HeavyStart


async def start_in_turn(starts: Shares, owner: str, start: Callable[..., Awaitable[T]]) -> T:
    """Return what `start` does. If it raises HeavyStart, repeat it when it is the owner's turn in `starts`."""
    with suppress(HeavyStart):
        return await start()
    async with starts.share(owner):  # outside of `except`: the exception's frames hold the assistant
        return await start(its_turn=True)


@contextmanager
def refused() -> Iterator[None]:
    """Translate the store's refusal of a new run. Raises InvalidRequest, NotFound."""
    try:
        yield
    except ThreadBusy as error:
        raise busy(error) from error
    except Missing as missing:
        raise NotFound(missing.message) from missing


def busy(error: ThreadBusy) -> InvalidRequest:
    """Return the error for a thread that has an active run."""
    return InvalidRequest(f"Thread {error.thread_id} already has an active run {error.run_id}.")


def no_assistant(assistant_id: str) -> NotFound:
    """Return the error for an assistant that does not exist."""
    return NotFound(f"No assistant found with id '{assistant_id}'.")
