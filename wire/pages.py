"""Envelopes of lists and deletions, and the query parameters of listings.

Invariant: the page after the last id is empty, so that clients that ignore `has_more` also stop.
"""

from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

__all__ = ["Deletion", "ListQuery", "Listing", "deletion", "list_envelope"]

T = TypeVar("T")


class ListQuery(BaseModel):
    """Query parameters of a listing."""

    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"
    after: str | None = Field(None, max_length=64)
    before: str | None = Field(None, max_length=64)


class Listing(BaseModel, Generic[T]):
    """The object `list`."""

    object: Literal["list"]
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deletion(BaseModel):
    """The answer to a deletion."""

    id: str
    object: str
    deleted: Literal[True]


def list_envelope(bodies: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """Make the list of these wire objects, in this order."""
    return {
        "object": "list",
        "data": list(bodies),
        "first_id": bodies[0]["id"] if bodies else None,
        "last_id": bodies[-1]["id"] if bodies else None,
        "has_more": has_more,
    }


def deletion(id: str, object: str) -> dict[str, Any]:
    """Make the answer to a deletion; `object` is the deleted object's type, such as `thread`."""
    return {"id": id, "object": f"{object}.deleted", "deleted": True}
