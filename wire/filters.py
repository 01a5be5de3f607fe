"""Attribute filters of a vector store's search: comparisons, and `and`/`or` of them. Pure.

Invariant: only values of the same type are equal or ordered (text, number, boolean; 1 and 1.0 are the same number, True
is no number). A file whose attribute is missing or has another type matches `ne` and `nin` only.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from wire.validation import Request, Scalar, one_of

__all__ = ["Attributes", "Comparison", "Compound", "Filter", "Membership", "count_values", "matches"]

Attributes = Mapping[str, Scalar]


class Comparison(Request):
    """Compares an attribute with one value."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte"]
    key: str
    value: Scalar


class Membership(Request):
    """Compares an attribute with a list of values."""

    type: Literal["in", "nin"]
    key: str
    value: Annotated[list[Scalar], Field(max_length=1000)]


class Compound(Request):
    """Filters of which all (`and`) or at least one (`or`) must match."""

    type: Literal["and", "or"]
    filters: Annotated[list["Filter"], Field(max_length=100)]


if TYPE_CHECKING:
    Filter = Comparison | Membership | Compound
else:
    _members = {
        **dict.fromkeys(("eq", "ne", "gt", "gte", "lt", "lte"), Comparison),
        **dict.fromkeys(("in", "nin"), Membership),
        **dict.fromkeys(("and", "or"), Compound),
    }
    Filter = one_of(**_members)

Compound.model_rebuild()


def count_values(wanted: Filter) -> int:
    """Return the maximum number of values that a file's attributes are compared with; an empty filter counts as one."""
    match wanted:
        case Compound(filters=filters):
            return max(1, sum(map(count_values, filters)))
        case Membership(value=values):
            return max(1, len(values))
        case Comparison():
            return 1


def matches(wanted: Filter, attributes: Attributes) -> bool:
    """Return whether a file with these attributes matches."""
    match wanted:
        case Compound(type="and", filters=filters):
            return all(matches(each, attributes) for each in filters)
        case Compound(filters=filters):
            return any(matches(each, attributes) for each in filters)
        case Membership(type=type, key=key, value=values):
            found = any(_compare("eq", attributes.get(key), value) for value in values)
            return found if type == "in" else not found
        case Comparison(type="ne", key=key, value=value):
            return not _compare("eq", attributes.get(key), value)
        case Comparison(type=type, key=key, value=value):
            return _compare(type, attributes.get(key), value)


def _compare(type: str, left: Scalar | None, right: Scalar) -> bool:
    if left is None or _kind(left) is not _kind(right):
        return False
    match type:
        case "eq":
            return left == right
        case "gt":
            return left > right  # type: ignore[operator]  # of one kind, see above
        case "gte":
            return left >= right  # type: ignore[operator]
        case "lt":
            return left < right  # type: ignore[operator]
        case _:
            return left <= right  # type: ignore[operator]


def _kind(value: Scalar) -> type:
    return type(value) if isinstance(value, str | bool) else float
