"""Bounds the work that a schema can cause, before any of it is done: size limits, and the rule that decides which
checks are small enough for the event loop. Pure.

The rule: with its references expanded, the schema is a finite tree of keywords whose cost is linear in their contents
and in the value. Each of its nodes then meets each value of the arguments at most once, so the product of both sizes
bounds the work. A keyword that is not listed here sends the check to a child process.
"""

from collections.abc import Iterator
from typing import Final

from chains.calls.references import walk
from chains.chat_types import JsonSchema

__all__ = [
    "MAX_CHARS",
    "MAX_DEPTH",
    "MAX_PLAIN",
    "MAX_VALUES",
    "find_excess",
    "is_brief",
    "is_long",
    "is_small",
    "plain_size",
]

MAX_VALUES: Final = 40_000
"""Values of one schema, or of the arguments that are checked against it, without names. OpenAI allows 5,000
properties, which are some 20,000 values."""
MAX_CHARS: Final = 1_048_576
"""Characters of one schema's names and texts."""
MAX_DEPTH: Final = 100
"""Levels of one schema, as in a request's body."""

_MAX_WORK: Final = 2_000
"""Values of the schema times values of the arguments: 1 ms as a rule, 40 ms in the worst case."""
MAX_PLAIN: Final = 4_000
"""Values of a request's schemas that are certain to be finite trees, without a trial: 20 ms in the worst case."""
_MAX_FOLLOWED: Final = 50
"""Length of a chain of references."""
_MAX_REFERENCE: Final = 500
"""Characters of a reference, which is parsed at each use."""
_REFERENCE_CHARS: Final = 16
"""Characters of a reference that cost as much as a value."""
_MAX_BRIEF: Final = 1_000
"""Values of schemas without references: walking so few is always quick."""
_MAX_BRIEF_CHARS: Final = 10_000
_CHARS: Final = 512
"""Characters that cost as much as a value: errors quote the values that they are about."""

_SCHEMAS: Final = frozenset({"items", "additionalProperties", "not", "if", "then", "else"})
_LISTS_OF_SCHEMAS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_MAPS_OF_SCHEMAS: Final = frozenset({"properties"})
_LINEAR: Final = frozenset(
    {"type", "enum", "const", "required", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    | {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "nullable"}
)
_UNREAD: Final = frozenset(
    {"title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly", "$comment"}
    | {"$schema", "$defs", "definitions", "strict"}
    | {"format", "pattern"}  # `chains.calls.schemas` never applies them
)


class _UnknownError(Exception):
    """The cost of a schema is unknown."""


def is_small(schema: JsonSchema, value: object) -> bool:
    """Return whether checking the value against the schema is certain to be quick."""
    if _extent(schema, _MAX_WORK) > _MAX_WORK:
        return False  # all of it is copied, even parts that are not read
    try:
        size = _written_out(schema, _MAX_WORK)
    except _UnknownError:
        return False
    return size + _extent(value, _MAX_WORK // max(size, 1)) * size <= _MAX_WORK


def is_long(value: object) -> bool:
    """Return whether JSON data has more than `MAX_VALUES` values and pieces of text."""
    return _extent(value, MAX_VALUES) > MAX_VALUES


def plain_size(schema: JsonSchema, maximum: int = MAX_PLAIN) -> int | None:
    """Return the size of a schema that needs no trial, because it is a finite tree of keywords with linear cost.

    None for any other schema, and for one of more than `maximum` values.
    """
    try:
        size = _written_out(schema, maximum)
    except _UnknownError:
        return None
    return size if size <= maximum else None


def is_brief(schemas: object) -> bool:
    """Return whether every walk over these schemas is quick: they are short and have no references."""
    count, chars = 0, 0
    waiting = [schemas]
    while waiting:
        each = waiting.pop()
        count += 1
        if isinstance(each, str):
            chars += len(each)
        elif isinstance(each, list):
            waiting += each[:_MAX_BRIEF]
        elif isinstance(each, dict):
            if "$ref" in each or len(each) > _MAX_BRIEF:
                return False
            waiting += each.values()
            chars += sum(map(len, each))
        if count + len(waiting) > _MAX_BRIEF or chars > _MAX_BRIEF_CHARS:
            return False
    return True


def find_excess(schema: object) -> str:
    """Return which limit a schema exceeds, such as `has more than 40000 values`; empty if none."""
    count, chars, depth = 0, 0, 0
    level = [schema]
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return f"is nested more than {MAX_DEPTH} levels deep"
        below: list[object] = []
        for each in level:
            count += 1
            if isinstance(each, str):
                chars += len(each)
            elif isinstance(each, list):
                below += each
            elif isinstance(each, dict):
                below += each.values()
                chars += sum(map(len, each))
            if count + len(below) > MAX_VALUES:
                return f"has more than {MAX_VALUES} values"
            if chars > MAX_CHARS:
                return f"has more than {MAX_CHARS} characters of names and strings"
        level = below
    return ""


def _extent(value: object, maximum: int) -> int:
    """Return the size of JSON data, in values and pieces of text; stops soon after `maximum`."""
    size = 0
    waiting = [value]
    while waiting and size <= maximum:
        each = waiting.pop()
        size += 1
        if isinstance(each, str):
            size += len(each) // _CHARS
        elif isinstance(each, list):
            if len(each) > maximum:
                return size + len(each)
            waiting += each
        elif isinstance(each, dict):
            if len(each) > maximum:
                return size + len(each)
            waiting += each.values()
            size += sum(map(len, each)) // _CHARS
        elif isinstance(each, int):
            size += each.bit_length() // _CHARS
    return size


def _written_out(schema: object, maximum: int) -> int:
    """Return the size of a schema with its references expanded. Raises _UnknownError, also above `maximum`."""
    size = 0
    waiting: list[tuple[object, tuple[str, ...]]] = [(schema, ())]
    while waiting:
        node, above = waiting.pop()
        size += 1
        if size > maximum:
            raise _UnknownError
        if isinstance(node, bool):
            continue
        if not isinstance(node, dict):  # invalid schemas are ignored
            size += _extent(node, maximum)
            continue
        for name, held in node.items():
            if name in _LINEAR:
                size += _extent(held, maximum)
            elif name == "$ref":
                if not isinstance(held, str) or held in above or len(above) >= _MAX_FOLLOWED:
                    raise _UnknownError
                size += len(held) // _REFERENCE_CHARS
                waiting.append((_target(schema, held), (*above, held)))
            elif name in _UNREAD or name.startswith("x-"):
                size += 1
            else:
                waiting += ((each, above) for each in _schemas(name, held))
    return size


def _schemas(name: str, held: object) -> Iterator[object]:
    """Yield the schemas that a keyword applies. Raises _UnknownError for a keyword that is not known to be linear."""
    if name in _MAPS_OF_SCHEMAS and isinstance(held, dict):
        yield from held.values()
    elif name in _LISTS_OF_SCHEMAS and isinstance(held, list):
        yield from held
    elif name in _SCHEMAS and isinstance(held, dict | bool):
        yield held
    else:
        raise _UnknownError


def _target(schema: object, reference: str) -> object:
    """Return the target of a reference into the schema. Raises _UnknownError for any other, or one that is too deep."""
    if len(reference) > _MAX_REFERENCE:
        raise _UnknownError
    try:
        for depth, node in enumerate(walk(schema, reference)):
            if depth > MAX_DEPTH:
                raise _UnknownError
            if isinstance(node, dict) and ("$id" in node or isinstance(node.get("id"), str)):
                raise _UnknownError  # references within it are relative to another base
    except LookupError:
        raise _UnknownError from None
    return node
