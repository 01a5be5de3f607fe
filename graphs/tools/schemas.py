"""Converts OpenAPI schemas to JSON Schema 2020-12 for the model, with `$ref`s expanded.

Invariant: the result is a finite tree. A schema that contains itself is cut at the recursion, keeping its type and
description. One that consists only of itself, or that exceeds the budget, is refused.
"""

from chains.calls.dialects import is_nullable, modernize, write_nullable
from graphs.tools.document import ErrorFactory
from graphs.tools.pointers import Pointer, follow, format_pointer
from wire.json import Json, JsonObject, UncheckedJson

__all__ = ["MAX_WRITTEN_OUT", "Inliner"]

MAX_WRITTEN_OUT = 100_000  # values of all schemas of one document, with `$ref`s expanded
_MAX_NESTING = 100

_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SINGLE = frozenset({"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"})
_SINGLE_3_1 = frozenset({"unevaluatedItems", "unevaluatedProperties"})
_STRUCTURE = frozenset({"properties", "patternProperties", "items", "prefixItems", "additionalProperties"})
# For people and generators; useless to a model or a validator.
_DROPPED = frozenset({"example", "examples", "xml", "externalDocs", "discriminator", "nullable", "$schema", "$comment"})


class Inliner:
    """Expands the schemas of one document; all of them share one budget."""

    def __init__(self, document: JsonObject, refuse: ErrorFactory) -> None:
        self._document = document
        self._refuse = refuse
        self._old = str(document["openapi"]).startswith("3.0")
        self.written = 0
        self._targets: JsonObject = {}

    def resolve(self, node: Json) -> UncheckedJson:
        """Follow `$ref`s of parameters, bodies and path items to the object that they refer to."""
        while isinstance(node, dict) and isinstance(node.get("$ref"), str):
            node = self._target(node["$ref"])
        return node

    def _target(self, reference: str) -> UncheckedJson:
        """Return the target of a reference. It is cached, as a document can refer to one target many times."""
        if reference not in self._targets:
            self._targets[reference] = follow(self._document, reference)
        return self._targets[reference]

    def schema(self, schema: Json, pointer: Pointer) -> JsonObject:
        """Return `schema` as a JSON Schema object without references."""
        result = self._write(schema, pointer, {}, 0)
        return result if isinstance(result, dict) else {} if result else {"not": {}}

    def _write(self, schema: Json, pointer: Pointer, above: dict[str, int], structure: int) -> UncheckedJson:
        self.written += 1
        if self.written > MAX_WRITTEN_OUT or len(above) > _MAX_NESTING:
            raise self._refuse(
                f"the schema at `{format_pointer(pointer)}` expands to more than {MAX_WRITTEN_OUT} values"
            )
        if not isinstance(schema, dict):
            return schema
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._write_reference(schema, reference, pointer, above, structure)
        result: JsonObject = {}
        for key, value in schema.items():
            if key in _DROPPED or key.startswith("x-"):
                continue
            deeper = structure + (key in _STRUCTURE)
            result[key] = self._write_keyword(key, value, pointer, above, deeper)
        return _from_3_0(result, schema) if self._old else result

    def _write_keyword(
        self, key: str, value: Json, pointer: Pointer, above: dict[str, int], structure: int
    ) -> UncheckedJson:
        if key in _MAPS and isinstance(value, dict):
            return {name: self._write(each, pointer, above, structure) for name, each in value.items()}
        if key in _LISTS and isinstance(value, list):
            return [self._write(each, pointer, above, structure) for each in value]
        if key in _SINGLE or key in _SINGLE_3_1:
            return self._write(value, pointer, above, structure)
        return value

    def _write_reference(
        self, schema: JsonObject, reference: str, pointer: Pointer, above: dict[str, int], structure: int
    ) -> UncheckedJson:
        target = self._target(reference)
        if reference in above:
            if above[reference] == structure:
                raise self._refuse(f"`{reference}`, used at `{format_pointer(pointer)}`, is circular")
            return _cut(target)
        written = self._write(target, pointer, {**above, reference: structure}, structure)
        if self._old and is_nullable(schema) and isinstance(written, dict):
            return write_nullable({**written, "nullable": True})
        siblings = {} if self._old else {key: value for key, value in schema.items() if key != "$ref"}
        if not siblings or not isinstance(written, dict):
            return written
        siblings = self._write(siblings, pointer, above, structure)
        if siblings.keys() <= {"description", "title", "default", "deprecated"}:
            return {**written, **siblings}
        return {"allOf": [written, siblings]}


def _cut(target: Json) -> JsonObject:
    if not isinstance(target, dict):
        return {}
    return {key: target[key] for key in ("type", "description") if key in target}


def _from_3_0(result: JsonObject, schema: JsonObject) -> JsonObject:
    return write_nullable({**modernize(result), "nullable": is_nullable(schema)})
