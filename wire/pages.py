"""Envelopes of lists and deletions, and the query parameters of listings.

Invariant: the page after the last id is empty, so that clients that ignore `has_more` also stop.
"""

from collections.abc import Mapping, Sequence
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

__all__ = ["Deletion", "ListBody", "ListQuery", "Listing", "deletion", "list_envelope"]

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


class Deletion(TypedDict):
    """The answer to a deletion."""

    id: str
    object: str
    deleted: Literal[True]


class ListBody(TypedDict):
    """The object `list` of any objects."""

    object: Literal["list"]
    data: list[Mapping[str, object]]
    first_id: str | None
    last_id: str | None
    has_more: bool


def list_envelope(bodies: Sequence[Mapping[str, object]], has_more: bool) -> ListBody:
    """Make the list of these wire objects, in this order."""
    return {
        "object": "list",
        "data": list(bodies),
        "first_id": str(bodies[0]["id"]) if bodies else None,
        "last_id": str(bodies[-1]["id"]) if bodies else None,
        "has_more": has_more,
    }


def deletion(id: str, object: str) -> Deletion:
    """Make the answer to a deletion; `object` is the deleted object's type, such as `thread`."""
    return {"id": id, "object": f"{object}.deleted", "deleted": True}
