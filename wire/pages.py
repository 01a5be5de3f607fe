"""Lists and deletions: the envelopes, and what a listing's query may say.

Law: after the last id there is an empty page, so that clients which ignore `has_more` come to an end, too.
"""

from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

__all__ = ["Deletion", "ListQuery", "Listing", "deletion", "list_envelope"]

T = TypeVar("T")


class ListQuery(BaseModel):
    """`limit`, `order`, `after`, `before` of a listing."""

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
    """What is left of a deleted object."""

    id: str
    object: str
    deleted: Literal[True]


def list_envelope(bodies: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """Make a list of wire objects in their order."""
    return {
        "object": "list",
        "data": list(bodies),
        "first_id": bodies[0]["id"] if bodies else None,
        "last_id": bodies[-1]["id"] if bodies else None,
        "has_more": has_more,
    }


def deletion(id: str, object: str) -> dict[str, Any]:
    """Make the answer to a deletion; `object` as the deleted object says it, e.g. `thread`."""
    return {"id": id, "object": f"{object}.deleted", "deleted": True}
