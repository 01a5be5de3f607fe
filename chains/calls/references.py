"""Resolves references into a schema (`#/$defs/a`) as jsonschema does. Pure."""

from collections.abc import Iterator
from urllib.parse import unquote

__all__ = ["follow", "walk"]


def walk(schema: object, reference: str) -> Iterator[object]:
    """Yield the schemas on a reference's path: the schema itself first, the target last.

    Raises LookupError if the reference is not a JSON pointer or has no target; the schemas up to there are yielded
    first.
    """
    if reference != "#" and not reference.startswith("#/"):
        raise LookupError(reference)
    yield schema
    for part in unquote(reference[1:]).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        try:
            if isinstance(schema, list):
                schema = schema[int(name)]
            elif isinstance(schema, dict):
                schema = schema[name]
            else:
                raise LookupError
        except (LookupError, ValueError):
            raise LookupError(reference) from None
        yield schema


def follow(schema: object, reference: str) -> object:
    """Return the target of a reference. Raises LookupError as `walk` does."""
    *_, target = walk(schema, reference)
    return target
