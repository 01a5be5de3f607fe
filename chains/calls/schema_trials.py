"""Decides whether a schema can be checked at all, in a child process, when an assistant or run is created. Pure.

A schema that expands without end, or takes more steps than one check allows, is refused with a reason. Keywords that
cannot be resolved, such as a reference without a target, cost nothing and pass, as they do in every check.
"""

from collections.abc import Iterator
from typing import Final

from chains.calls.references import follow
from chains.calls.schemas import DATA, MAX_STEPS, StepLimitExceeded, try_errors
from chains.chat_types import JsonSchema

__all__ = ["try_schema", "try_schemas"]

_MAX_PER_VALUE: Final = 10_000
"""Maximum schemas that apply to the same value."""
_MAX_SAMPLE: Final = 300
"""Values of the example that a trial generates."""
_MAX_SAMPLE_DEPTH: Final = 8

_LISTS: Final = ("allOf", "anyOf", "oneOf")
_SINGLES: Final = ("not", "if", "then", "else")
_MAPS: Final = ("dependentSchemas", "dependencies")
_MAPS_OF_SCHEMAS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", *_MAPS})
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")


def try_schemas(schemas: list[JsonSchema]) -> tuple[int, str] | None:
    """Return the index of the first schema that cannot be checked, and the reason; None if all can be."""
    found = ((index, try_schema(schema)) for index, schema in enumerate(schemas))
    return next(((index, why) for index, why in found if why), None)


def try_schema(schema: JsonSchema) -> str:
    """Return why a schema cannot be checked, as the end of a sentence about it; empty if it can be."""
    index = _Index(schema)
    sizes: dict[int, int] = {}
    for node in index.nodes:
        size = _size_per_value(node, index, sizes)
        if size == 0:
            return "has circular references that never reach a property or an item of a value"
        if size > _MAX_PER_VALUE:
            return f"applies more than {_MAX_PER_VALUE} schemas to the same value when its references are expanded"
    try:
        samples: tuple[object, ...] = ({}, _Samples(index).make(schema))
        for value in samples:
            try_errors(schema, value)
    except (StepLimitExceeded, RecursionError):
        return f"takes more than {MAX_STEPS} steps to check one small value"
    return ""


class _Index:
    """The nodes of a schema by identity, and the targets of its references."""

    def __init__(self, schema: JsonSchema) -> None:
        self.root = schema
        self.nodes: list[JsonSchema] = []
        self._named: dict[str, JsonSchema] = {}
        waiting: list[object] = [schema]
        while waiting:
            each = waiting.pop()
            if isinstance(each, list):
                waiting += each
            elif isinstance(each, dict):
                self.nodes.append(each)
                for keyword, held in each.items():
                    if keyword in _MAPS_OF_SCHEMAS and isinstance(held, dict):
                        waiting += held.values()
                    elif keyword not in DATA:
                        waiting.append(held)
                for name in ("$anchor", "$dynamicAnchor", "$id", "id"):
                    if isinstance(identifier := each.get(name), str):
                        self._named.setdefault(identifier.rpartition("/")[2].lstrip("#"), each)

    def follow(self, reference: object) -> object:
        """Return the target of a reference; None if it cannot be resolved."""
        if not isinstance(reference, str):
            return None
        base, _, fragment = reference.partition("#")
        node: object = self._named.get(base.rpartition("/")[2]) if base else self.root
        if not fragment:
            return node
        if not fragment.startswith("/"):
            return self._named.get(fragment)
        try:
            return follow(node, f"#{fragment}")
        except LookupError:
            return None


def _schemas_for_value(node: JsonSchema, index: _Index) -> Iterator[JsonSchema]:
    """Yield the schemas that apply to the same value as a node."""
    for name in _LISTS:
        if isinstance(held := node.get(name), list):
            yield from (each for each in held if isinstance(each, dict))
    yield from (held for name in _SINGLES if isinstance(held := node.get(name), dict))
    for name in _MAPS:
        if isinstance(held := node.get(name), dict):
            yield from (each for each in held.values() if isinstance(each, dict))
    for name in _REFERENCES:
        if name in node and isinstance(target := index.follow(node[name]), dict):
            yield target


def _size_per_value(node: JsonSchema, index: _Index, sizes: dict[int, int]) -> int:
    """Return how many schemas this node applies to one value, following references; 0 if that never ends."""
    path: list[tuple[JsonSchema, Iterator[JsonSchema]]] = []
    open_: set[int] = set()

    def enter(each: JsonSchema) -> None:
        sizes[id(each)] = 1
        open_.add(id(each))
        path.append((each, _schemas_for_value(each, index)))

    if id(node) not in sizes:
        enter(node)
    while path:
        each, below = path[-1]
        inner = next(below, None)
        if inner is None:
            path.pop()
            open_.discard(id(each))
            if path:
                sizes[id(path[-1][0])] += sizes[id(each)]
        elif id(inner) in open_:
            return 0
        elif id(inner) in sizes:
            sizes[id(each)] += sizes[id(inner)]
        else:
            enter(inner)
    return sizes[id(node)]


class _Samples:
    """Makes an example value that exercises a schema."""

    def __init__(self, index: _Index) -> None:
        self._index = index
        self._left = _MAX_SAMPLE

    def make(self, schema: object, depth: int = 0) -> object:
        """Return a value with the properties and items that a schema names."""
        self._left -= 1
        if not isinstance(schema, dict) or depth > _MAX_SAMPLE_DEPTH or self._left < 0:
            return {}
        for name in _REFERENCES:
            if isinstance(target := self._index.follow(schema.get(name)), dict):
                return self.make(target, depth + 1)
        for name in _LISTS:
            if isinstance(held := schema.get(name), list) and held:
                return self.make(held[0], depth + 1)
        if isinstance(properties := schema.get("properties"), dict):
            return {name: self.make(each, depth + 1) for name, each in properties.items() if self._left > 0}
        if isinstance(items := schema.get("items"), dict):
            return [self.make(items, depth + 1)]
        kind = schema.get("type")
        return {"string": "", "integer": 1, "number": 1, "boolean": True, "array": []}.get(str(kind), {})
