"""Markers on the fields of wire objects that say which clients do not get a field. Pure.

A field is `Annotated` with its markers where its object is declared. `wire.v1` and `wire.extensions` derive the
fields that they omit from the markers, so no other file lists them. A field without markers is in every form of its
object.
"""

from enum import Enum
from typing import Annotated, NotRequired, Required, get_args, get_origin, get_type_hints

__all__ = ["FieldMarker", "marked_fields"]


class FieldMarker(Enum):
    """Who does not get a field. Pydantic ignores these markers."""

    ADDED_IN_V2 = "v1 clients: v1's objects lack it, according to the last SDKs (openai-python 1.20, openai-node 4.36)"
    EXTENSION = "clients that do not ask for extensions: OpenAI's objects lack it"
    V1_ONLY = "clients that do not ask for extensions, unless they use v1: only v1's objects have it"


def marked_fields(object_type: type, *markers: FieldMarker) -> frozenset[str]:
    """Return the names of a TypedDict's fields that have one of these markers."""
    hints = get_type_hints(object_type, include_extras=True)
    return frozenset(name for name, hint in hints.items() if not _markers(hint).isdisjoint(markers))


def _markers(hint: object) -> set[FieldMarker]:
    found: set[FieldMarker] = set()
    while get_origin(hint) in (NotRequired, Required, Annotated):
        found.update(each for each in getattr(hint, "__metadata__", ()) if isinstance(each, FieldMarker))
        hint = get_args(hint)[0]
    return found
