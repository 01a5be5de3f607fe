"""Limits in JSON Schemas (`minimum`, `maxLength` …) that the grammars of the built-in engine support. Pure."""

import math
from collections.abc import Callable, Mapping
from typing import Final, TypedDict, TypeGuard

from chains.chat_types import JsonSchema

__all__ = [
    "DATA",
    "KINDS",
    "MAPS",
    "MAX_REPEATS",
    "BoundSchema",
    "SchemaRefused",
    "count_digits",
    "count_repetitions",
    "is_number",
    "kinds_of",
    "limit",
    "without_lone_merges",
    "without_long_limits",
]

KINDS: Final = ("string", "number", "integer", "object", "array", "boolean", "null")
MAPS: Final = ("properties", "$defs", "definitions")
"""Keywords that hold schemas by name."""
_WORDS: Final = frozenset(
    {
        "allOf",
        "title",
        "description",
        "default",
        "example",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "nullable",
    }
)
DATA: Final = ("enum", "const")
"""Keywords that hold values, not schemas."""
MAX_REPEATS: Final = 1_999
"""llama.cpp refuses a grammar with more repetitions."""
_MAX_NUMBER: Final = 2**53
_MAX_ONE_SIDED: Final = 10**15
"""llama.cpp 2026.10 hangs on a limit of 16 digits, such as 2e15, without a limit on the other side."""
_COUNTS: Final = ("minLength", "maxLength", "minItems", "maxItems")
_LIMITS: Final = ("maxLength", "maxItems")
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")

_PAIRS: Final = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    *((low, high) for low in ("minimum", "exclusiveMinimum") for high in ("maximum", "exclusiveMaximum")),
)
_ROUNDED: Final[dict[str, Callable[[float], int]]] = {
    **dict.fromkeys(_COUNTS, int),
    "minimum": math.ceil,
    "maximum": math.floor,
    "exclusiveMinimum": math.floor,
    "exclusiveMaximum": math.ceil,
}
"""The whole number that a limit means for an integer."""
_STEPS: Final = {"exclusiveMinimum": 1, "exclusiveMaximum": -1}


class SchemaRefused(ValueError):
    """A schema exceeds a limit. The message is a sentence that names the item, its value and the limit."""


class BoundSchema(TypedDict, total=False):
    """A schema as llama.cpp accepts it, or a sentence that says why it is refused."""

    schema: JsonSchema
    refused: str


def count_repetitions(schema: Mapping[str, object]) -> int:
    """Return how many elements a grammar has for the counts of one node.

    Raises SchemaRefused for limits that no grammar can have.
    """
    repetitions = 0
    for name in (name for name in _COUNTS if schema.get(name) is not None):
        value = schema[name]
        if not is_number(value) or value < 0 or value != value:
            raise SchemaRefused(f"`{name}` is {str(value)[:40]}; it must be a number of at least 0.")
        if name in _LIMITS and value > MAX_REPEATS:
            continue  # left out, see `without_long_limits`
        if value > MAX_REPEATS:
            raise SchemaRefused(f"`{name}` is {value:g}; at most {MAX_REPEATS} is allowed. Lower it.")
        repetitions += int(value)
    for name in (name for name in _BOUNDS if schema.get(name) is not None):
        value = schema[name]
        if not is_number(value) or not abs(value) <= _MAX_NUMBER:
            raise SchemaRefused(f"`{name}` is {str(value)[:40]}; it must be a number within ±2^53. Leave it out.")
    _check_ranges(schema)
    return repetitions


def count_digits(schema: Mapping[str, object]) -> int:
    """Return how many digits the limits of an integer have; 0 if the node is not an integer."""
    if "integer" not in kinds_of(schema):
        return 0
    return sum(len(str(abs(int(value)))) for name in _BOUNDS if is_number(value := schema.get(name)))


def _check_ranges(schema: Mapping[str, object]) -> None:
    """Raise SchemaRefused for limits that allow no value: llama.cpp counts from the lower limit up to the upper one,
    and never ends if the upper one is lower. It accepts whole numbers only."""
    names = (*_COUNTS, *(_BOUNDS if "integer" in kinds_of(schema) else ()))
    given = {name: _ROUNDED[name](value) for name in names if is_number(value := schema.get(name))}
    given |= {name: given[name] + step for name, step in _STEPS.items() if name in given}
    for low, high in _PAIRS:
        if low in given and high in given and given[low] > given[high]:
            raise SchemaRefused(f"`{low}` {schema[low]} and `{high}` {schema[high]} allow no value. Correct one.")
    lows = [name for name in ("minimum", "exclusiveMinimum") if name in given]
    highs = [name for name in ("maximum", "exclusiveMaximum") if name in given]
    for name in (lows or highs) if not (lows and highs) else ():
        if (given[name] if lows else -given[name]) >= _MAX_ONE_SIDED:
            other = "maximum" if lows else "minimum"
            raise SchemaRefused(f"`{name}` {schema[name]} has 16 digits or more; it also needs a `{other}`.")


def without_long_limits(schema: object) -> object:
    """Return a checked schema without upper limits that no grammar can have (the context ends such a value earlier),
    and with whole numbers as the limits of integers."""
    if isinstance(schema, list):
        return [without_long_limits(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _fitted_keyword(name, value)
        for name, value in schema.items()
        if not (name in _LIMITS and is_number(value) and value > MAX_REPEATS)
    }


def without_lone_merges(schema: object) -> object:
    """Return a schema in which each `allOf` of one schema, next to annotations only, is replaced by that schema.

    Pydantic 1 writes every described field this way. llama.cpp expands an `allOf` in place, without its own rule.
    """
    if isinstance(schema, list):
        return [without_lone_merges(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    merged = schema.get("allOf")
    if isinstance(merged, list) and len(merged) == 1 and isinstance(merged[0], dict) and schema.keys() <= _WORDS:
        return without_lone_merges(merged[0])
    return {
        name: value
        if name in DATA
        else {each: without_lone_merges(one) for each, one in value.items()}
        if name in MAPS and isinstance(value, dict)
        else without_lone_merges(value)
        for name, value in schema.items()
    }


def _fitted_keyword(name: str, value: object) -> object:
    if name in DATA:
        return value
    if name in MAPS and isinstance(value, dict):
        return {each: without_long_limits(schema) for each, schema in value.items()}
    if name in _ROUNDED and type(value) is float:
        return _ROUNDED[name](value)  # llama.cpp refuses counts that are not integers, and ignores such bounds
    return without_long_limits(value)


def kinds_of(schema: Mapping[str, object]) -> list[str]:
    """Return the types that a node names. Raises SchemaRefused for unknown ones."""
    given = schema.get("type")
    kinds = given if isinstance(given, list) else [] if given is None else [given]
    limit("types of one value", len(kinds), len(KINDS), "Name each type once.")
    for kind in kinds:
        if kind not in KINDS:
            raise SchemaRefused(f"`type` is {str(kind)[:40]!r}; it must be a JSON Schema type.")
    return [str(kind) for kind in kinds]


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a JSON value is a number; booleans are none."""
    return type(value) in (int, float)


def limit(what: str, value: int, maximum: int, advice: str) -> None:
    """Raise SchemaRefused, with advice, if the value exceeds the limit."""
    if value > maximum:
        raise SchemaRefused(f"It has too many {what}: {value}; at most {maximum} are allowed. {advice}")
