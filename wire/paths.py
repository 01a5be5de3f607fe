"""Locations in a request: as pydantic reports them, as a client reads them, and in the data itself. Pure."""

from collections.abc import Sequence
from typing import Final

from wire.json import Json, UncheckedJson

__all__ = ["KEY", "TAG", "Location", "find_container", "format_path", "truncated"]

TAG: Final = "~"
"""First character of our unions' tags, which pydantic includes in its locations."""

KEY: Final = "[key]"
"""What pydantic appends to the location of an invalid key."""

_MAX_SHOWN: Final = 200  # characters of a client's own text that an error repeats

Location = Sequence[int | str]
"""Keys, indexes and tags, from the outside in."""


def truncated(value: Json) -> str:
    """Return a client's own text as an error repeats it; long text is truncated."""
    text = str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def format_path(loc: Location) -> str:
    """Return a location as OpenAI writes it, such as `tools[0].function.name`."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(TAG) and part != KEY:
            path += f".{truncated(part)}" if path else truncated(part)
    return path


def find_container(root: UncheckedJson, loc: Location) -> tuple[UncheckedJson, UncheckedJson] | None:
    """Return the dict or list that holds a location, and its key or index there; None if the data does not have it.

    A part that looks like a tag and is not a key of the data is skipped.
    """
    place: tuple[UncheckedJson, UncheckedJson] | None = None
    current = root
    for part in loc:
        if isinstance(part, str) and part.startswith(TAG) and not (isinstance(current, dict) and part in current):
            continue
        try:
            place, current = (current, part), current[part]
        except (KeyError, IndexError, TypeError):
            return None
    return place
