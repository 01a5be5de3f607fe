"""References into a schema (`#/$defs/a`), followed as jsonschema follows them. Pure."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

__all__ = ["follow", "walk"]


def walk(schema: Any, reference: str) -> Iterator[Any]:
    """Yield what a reference leads through: the schema itself first, the target last.

    Raises LookupError where it is no JSON pointer, or leads to nothing; what is on the way has been yielded then.
    """
    if reference != "#" and not reference.startswith("#/"):
        raise LookupError(reference)
    yield schema
    for part in unquote(reference[1:]).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        try:
            schema = schema[int(name)] if isinstance(schema, list) else schema[name]
        except (LookupError, TypeError, ValueError):
            raise LookupError(reference) from None
        yield schema


def follow(schema: Any, reference: str) -> Any:
    """Return what a reference points at. Raises LookupError as `walk` does."""
    *_, target = walk(schema, reference)
    return target
