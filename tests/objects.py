"""Checks wire objects against their types."""

from pydantic import TypeAdapter

__all__ = ["check"]


def check(kind: object, body: object) -> None:
    """Raise pydantic's ValidationError unless the body is an object of this TypedDict."""
    TypeAdapter(kind).validate_python(body)
