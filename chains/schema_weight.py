"""Limits the JSON Schemas that the built-in engine converts to grammars. Pure; linear in the size of the expansion.

llama.cpp converts a schema to a grammar and, for each token, follows every possible continuation of the text so far.
This work blocks its only loop, so one costly schema would stop all other answers. Invariant: the continuations of an
accepted schema never exceed `MAX_WEIGHT` at any point, at any depth of a recursive schema.

The time before the first token grows quadratically: about 0.5 s for an enum of 500 values or 500 optional properties,
and 8 s for an enum of 3,000 values. Alternatives that stay open, such as 50 strings, cost 0.1 s for every token.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from chains.chat_types import JsonSchema
from chains.pattern_weight import PatternRefused, pattern_weight
from chains.schema_limits import (
    DATA,
    KINDS,
    MAPS,
    BoundSchema,
    SchemaRefused,
    count_digits,
    count_repetitions,
    kinds_of,
    limit,
    without_lone_merges,
    without_long_limits,
)
from chains.schema_names import RuleNames

__all__ = ["MAX_WEIGHT", "SchemaRefused", "bound_schemas", "check_schema"]

MAX_WEIGHT: Final = 1_000
"""Maximum weight open at once: an enum value weighs 1, an optional property 2, a string or a pattern's position 10."""
_MAX_NODES: Final = 3_000
"""Maximum subschemas; those behind references count at each use."""
_MAX_DEPTH: Final = 48
_MAX_VALUES: Final = 2_000
"""Maximum enum values in total; `MAX_WEIGHT` limits how many can be open at once."""
_MAX_TEXT: Final = 60_000
"""Maximum characters of all property names and enum values."""
_MANY_LITERALS: Final = 250
_MAX_TEXT_OF_MANY: Final = 15_000
"""OpenAI's limit for enums of over 250 values: a longer common beginning makes more tokens evaluate all values."""
_MAX_REPEATS_TOTAL: Final = 400_000
"""Maximum repetitions in all limits of strings and lists, and positions in patterns. Each is an element of the grammar
in memory; 1.9 million take 4 s and 800 MB."""
_MAX_REFERENCE: Final = 1_000
"""Maximum characters of a `$ref`, which is parsed at each use."""

_OPTIONAL: Final = 2
_TEXT: Final = 10
_NUMBER: Final = 4
_DIGIT: Final = 10
"""A digit of an integer's limits: llama.cpp writes the numbers between two limits as alternatives, digit by digit."""
_MAX_DIGITS: Final = 4_000
"""Maximum digits in the limits of all integers: 120 of them from 1 to 2^53, or 1,000 from 0 to 100."""
_ANY: Final = frozenset((kind,) for kind in KINDS)
_TYPES: Final = {
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "array",
    type(None): "null",
}
_NAMES: Final = {type(None): "null", bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
_ALTERNATIVES: Final = ("anyOf", "oneOf")
_REFERENCE: Final = re.compile(r"#(?:/[^/]+)*")


@dataclass(frozen=True, slots=True)
class _Open:
    """Open continuations: `first` is their number before the first character of a value, `maximum` the highest number
    at any point."""

    first: int = 1
    maximum: int = 1


@dataclass(slots=True)
class _Totals:
    """Totals over all schemas of one request: subschemas, enum values, characters, repetitions."""

    nodes: int = 0
    digits: int = 0
    values: int = 0
    text: int = 0
    repeats: int = 0
    names: RuleNames = field(default_factory=RuleNames)


def bound_schemas(schemas: Sequence[object]) -> list[BoundSchema]:
    """Return, for each schema of one request, `{"schema": …}` as llama.cpp accepts it, or `{"refused": sentence}`."""
    totals = _Totals()
    return [_bound(schema, totals) for schema in schemas]


def _bound(schema: object, totals: _Totals) -> BoundSchema:
    try:
        if not isinstance(schema, dict):
            raise SchemaRefused("It must be an object.")
        schema = without_lone_merges(schema)
        check_schema(schema, totals)
    except SchemaRefused as error:
        return {"refused": str(error)}
    fitted = without_long_limits(schema)
    assert isinstance(fitted, dict)  # as the schema itself
    return {"schema": fitted}


def check_schema(schema: object, totals: _Totals | None = None) -> None:
    """Raise SchemaRefused for a schema whose grammar would take seconds, much memory, or has no end.

    `totals` carries what the request's other schemas have used up.
    """
    weight = _Weight(schema, totals or _Totals()).of(schema, 0).maximum
    if weight > MAX_WEIGHT:
        raise SchemaRefused(
            f"It has too many possible continuations at one point: a weight of {weight}; at most {MAX_WEIGHT} is "
            f"allowed (an enum value weighs 1, an optional property {_OPTIONAL}, a free string {_TEXT}). Use fewer "
            "enum values, optional properties, or alternatives that begin alike."
        )


class _Weight:
    """Weighs one schema. `root` is the schema that its references point into."""

    def __init__(self, root: object, totals: _Totals) -> None:
        self._root = root
        self._totals = totals
        self._path: list[str] = []
        """References that are being followed, outermost first; `""` is the root itself."""
        self._names = 0
        """Characters of property names on the path to the current subschema."""
        self._is_merged = False
        """Whether the current subschema is merged into another one; properties and lists in it are not."""
        self._consumed: list[int] = []
        """Lengths of `_path` where a property or list was entered: only these let a circular reference end."""
        self._alike: list[int] = []
        """Lengths of `_path` at which alternatives with the same beginning were entered."""

    def of(self, schema: object, depth: int) -> _Open:
        """Weigh a subschema."""
        self._totals.nodes += 1
        limit("subschemas", self._totals.nodes, _MAX_NODES, "Use fewer properties or references.")
        limit("levels", depth, _MAX_DEPTH, "Use a flatter structure.")
        if schema is True or schema == {}:
            return _Open(_TEXT, _TEXT)
        if not isinstance(schema, dict):
            raise SchemaRefused(f"A subschema is {_kind(schema)}; it must be an object.")
        if "$ref" in schema:
            return self._behind(schema["$ref"], depth)
        return self._direct(schema, depth)

    def _direct(self, schema: JsonSchema, depth: int) -> _Open:
        self._add_repeats(count_repetitions(schema), depth)
        # All of it is weighed, since which keyword llama.cpp looks at first depends on where the schema is.
        found = [self._alternatives(schema[key], key, depth) for key in _ALTERNATIVES if key in schema]
        if "allOf" in schema:  # merged into one
            each = [self._merged(part, depth + 1) for part in _list(schema["allOf"], "allOf")]
            found.append(_Open(sum(part.first for part in each), sum(part.maximum for part in each)))
        kinds = kinds_of(schema)
        if "enum" in schema or "const" in schema:
            values = _list(schema["enum"], "enum") if "enum" in schema else [schema["const"]]
            found.append(self._literals(values * max(1, len(kinds))))  # once for each type
        else:
            found += self._scalars(schema, kinds, depth)
        if "object" in kinds or "properties" in schema or "additionalProperties" in schema:
            found.append(self._object(schema, depth))
        if "array" in kinds or "items" in schema or "prefixItems" in schema:
            found.append(self._array(schema, depth))
        if not found:
            return _Open(_TEXT, _TEXT)
        return _Open(sum(each.first for each in found), max(sum(e.first for e in found), *(e.maximum for e in found)))

    def _scalars(self, schema: JsonSchema, kinds: list[str], depth: int) -> Iterator[_Open]:
        if "string" in kinds:
            yield self._string(schema, depth)
        if "number" in kinds or "integer" in kinds:
            digits = count_digits(schema)
            self._totals.digits += digits
            limit("digits in its integer limits", self._totals.digits, _MAX_DIGITS, "Leave some of the limits out.")
            yield _Open(_NUMBER + _DIGIT * digits, _NUMBER + _DIGIT * digits)

    def _merged(self, schema: object, depth: int) -> _Open:
        """Weigh a part of an `allOf`. llama.cpp merges it in place, with all references and alternatives in it, so a
        circle of such parts would never end."""
        before, self._is_merged = self._is_merged, True
        weight = self.of(schema, depth)
        self._is_merged = before
        return weight

    def _add_repeats(self, count: int, depth: int) -> None:
        self._totals.repeats += count
        limit(
            "repetitions in its strings and arrays",
            self._totals.repeats,
            _MAX_REPEATS_TOTAL,
            "Lower `minLength`, `maxLength`, `minItems`, `maxItems` or the repetitions in patterns, or leave them out.",
        )
        self._totals.names.add(1 + count, self._names, depth)

    def _string(self, schema: Mapping[str, object], depth: int) -> _Open:
        pattern = schema.get("pattern")
        if pattern is None:
            return _Open(1, _TEXT)
        if not isinstance(pattern, str):
            raise SchemaRefused(f"`pattern` is {_kind(pattern)}; it must be a string.")
        try:
            weight = pattern_weight(pattern)
        except PatternRefused as error:
            raise SchemaRefused(f"`pattern` `{pattern[:60]}` {error}. Use a simpler pattern, or none.") from error
        self._add_repeats(weight.size, depth)
        return _Open(_TEXT * weight.open, _TEXT * weight.open)

    def _literals(self, values: list[object]) -> _Open:
        self._totals.values += len(values)
        limit("enum values", self._totals.values, _MAX_VALUES, "Use fewer, or a string without `enum`.")
        self._add_text([_length(value) for value in values], "enum values")
        return _Open(len(values), len(values))

    def _add_text(self, lengths: list[int], what: str) -> None:
        self._totals.text += sum(lengths)
        advice = "Use fewer or shorter ones."
        limit("characters of names and enum values", self._totals.text, _MAX_TEXT, advice)
        if len(lengths) > _MANY_LITERALS and what != "required properties":
            limit(f"characters of {len(lengths)} {what}", sum(lengths), _MAX_TEXT_OF_MANY, advice)

    def _alternatives(self, given: object, key: str, depth: int) -> _Open:
        branches = _list(given, key)
        limit(f"alternatives of one `{key}`", len(branches), MAX_WEIGHT, "Use fewer.")
        literals = [value for branch in branches for value in _literals(branch)]
        if len(literals) > _MANY_LITERALS:  # equivalent to one enum
            length = sum(map(_length, literals))
            limit(f"characters of {len(literals)} enum values", length, _MAX_TEXT_OF_MANY, "Use fewer or shorter ones.")
        heads = [self._heads(branch) for branch in branches]
        exact = {head for each in heads for head in each}
        prefixes = Counter(head[:end] for each in heads for head in each for end in range(1, len(head) + 1))
        first, apart, together = 0, 0, 0
        for branch, head in zip(branches, heads, strict=True):
            is_alike = any(prefixes[one] > 1 or any(one[:end] in exact for end in range(1, len(one))) for one in head)
            if is_alike:
                self._alike.append(len(self._path))
            weight = self.of(branch, depth + 1)
            if is_alike:
                self._alike.pop()
                together += weight.maximum
            apart = max(apart, weight.maximum)
            first += weight.first
        return _Open(first, max(first, apart, together))

    def _heads(self, schema: object) -> frozenset[tuple[str, ...]]:
        """Return how values of an alternative can begin. If two heads are equal, or one is a prefix of the other, the
        start of the text does not show which alternative it is."""
        for _ in range(_MAX_DEPTH):
            if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str):
                break
            schema = self._target(schema["$ref"])
        if not isinstance(schema, dict) or not schema:
            return _ANY
        if any(key in schema for key in (*_ALTERNATIVES, "allOf")):
            return _ANY
        if "enum" in schema or "const" in schema:
            values = schema.get("enum", [schema.get("const")])
            return frozenset((_TYPES[type(value)],) for value in _list(values, "enum"))
        kinds = kinds_of(schema) or KINDS
        if tuple(kinds) == ("object",):
            return frozenset({_object_head(schema)})
        return frozenset(("number" if kind == "integer" else kind,) for kind in kinds)

    def _object(self, schema: JsonSchema, depth: int) -> _Open:
        properties = schema.get("properties", {})
        if not isinstance(properties, dict):
            raise SchemaRefused(f"`properties` is {_kind(properties)}; it must be an object.")
        required = _required(schema)
        optional = [name for name in properties if name not in required]
        self._totals.names.add_object(schema, properties, self._names, depth)
        self._add_text([len(name) for name in properties if name in required], "required properties")
        self._add_text([len(name) for name in optional], "optional properties")
        maximum = 1 + _OPTIONAL * len(optional)
        more = schema.get("additionalProperties")
        inner = [*properties.items(), *([("", more)] if isinstance(more, dict) and more else [])]
        return _Open(1, max([maximum, *self._inside(inner, depth)]))

    def _array(self, schema: JsonSchema, depth: int) -> _Open:
        items = [schema[name] for name in ("items", "prefixItems", "additionalItems") if name in schema]
        listed = [one for each in items for one in (each if isinstance(each, list) else [each])]
        inner = [("", each) for each in listed if not isinstance(each, bool)]
        return _Open(1, max([2, *(weight + 1 for weight in self._inside(inner, depth))]))

    def _inside(self, schemas: list[tuple[str, object]], depth: int) -> Iterator[int]:
        """Yield the weights within an object or a list, whose text shows where each value begins. `schemas` are those
        of its properties by name, or of its elements, whose name is empty."""
        self._consumed.append(len(self._path))
        before, self._is_merged = self._is_merged, False
        for name, schema in schemas:
            self._names += len(name)
            yield self.of(schema, depth + 1).maximum
            self._names -= len(name)
        self._is_merged = before
        self._consumed.pop()

    def _behind(self, reference: object, depth: int) -> _Open:
        target = self._target(reference)
        name = str(reference)
        since = self._path.index(name) + 1 if name in self._path else 0 if target is self._root else None
        if since is None:
            self._path.append(name)
            self._names += len(name)
            weight = self.of(target, depth + 1)
            self._names -= len(name)
            self._path.pop()
            return weight
        if self._is_merged:
            message = (
                f"`$ref` `{name[:80]}` refers to itself through an `allOf`, which is merged. Use the `$ref` alone."
            )
            raise SchemaRefused(message)
        if not any(mark >= since for mark in self._consumed):
            message = f"`$ref` `{name[:80]}` refers to itself without a property or array in between. Put one there."
            raise SchemaRefused(message)
        if any(mark >= since for mark in self._alike):
            raise SchemaRefused(
                f"`$ref` `{name[:80]}` is recursive within alternatives that begin alike, whose number would double at "
                "each level. Start each of them with a required property that has a different `const`."
            )
        return _Open(_TEXT, _TEXT)

    def _target(self, reference: object) -> object:
        length = len(reference) if isinstance(reference, str) else 0
        limit("characters in a `$ref`", length, _MAX_REFERENCE, "Use shorter names of definitions.")
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            raise SchemaRefused(f"`$ref` {str(reference)[:80]!r} points outside the schema. Use `$defs` and `#/…`.")
        node, is_map = self._root, False
        for part in reference.split("/")[1:]:
            if not isinstance(node, dict) or part not in node:
                raise SchemaRefused(f"`$ref` `{reference[:80]}` points to nothing. Add the definition.")
            if not is_map and part in DATA:
                raise SchemaRefused(f"`$ref` `{reference[:80]}` points into `{part}`, not at a schema. Use `$defs`.")
            node, is_map = node[part], not is_map and part in MAPS
        if is_map:
            raise SchemaRefused(f"`$ref` `{reference[:80]}` points to a map of schemas. Add the name of one.")
        return node


def _object_head(schema: Mapping[str, object]) -> tuple[str, ...]:
    """Return an object's first required property and, if it is fixed, its value: llama.cpp writes required properties
    first, in the order of `properties`."""
    properties, required = schema.get("properties"), _required(schema)
    if not isinstance(properties, dict):
        return ("object",)
    name = next((name for name in properties if name in required), None)
    if name is None:
        return ("object",)
    value = properties[name]
    fixed = value.get("const", value.get("enum")) if isinstance(value, dict) else None
    if isinstance(fixed, list):
        fixed = fixed[0] if len(fixed) == 1 else None
    return ("object", name, fixed) if isinstance(fixed, str) else ("object", name)


def _literals(schema: object) -> list[object]:
    """Return the values that an alternative allows, if it lists them."""
    if not isinstance(schema, dict):
        return []
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return values if isinstance(values, list) else []


def _required(schema: Mapping[str, object]) -> set[str]:
    return {name for name in _list(schema.get("required") or [], "required") if isinstance(name, str)}


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise SchemaRefused(f"`{name}` is {_kind(value)}; it must be an array.")
    return value


def _length(value: object) -> int:
    return len(value) if isinstance(value, str) else len(repr(value))


def _kind(value: object) -> str:
    return _NAMES.get(type(value), "a number")
