"""The reasons why a run cannot start, or cannot start yet, as API errors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from graphs.turns import weigh
from wire.errors import InvalidRequest, Missing, NotFound, ThreadBusy

__all__ = ["HeavyStart", "busy", "no_assistant", "refused", "require_turn"]

_LIGHT: Final = 8
"""Starts with heavier assistants (128 KB and more) take turns, so that those who wait hold no copy of them."""


class HeavyStart(Exception):
    """The assistant is so large that an owner's runs with it start one at a time."""


def require_turn(assistant: Mapping[str, Any], *, its_turn: bool) -> None:
    """Raise HeavyStart for a large assistant where it is not `its_turn`."""
    if not its_turn and weigh(assistant) > _LIGHT:
        raise HeavyStart


@contextmanager
def refused() -> Iterator[None]:
    """Translate what the store refuses a new run with. Raises InvalidRequest, NotFound."""
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
    """Return the error for an assistant that is not there."""
    return NotFound(f"No assistant found with id '{assistant_id}'.")
