"""The JSON Schemas for constrained decoding: the choice, and the call with its arguments. Pure.

Invariants: the schema is a finite tree in draft 2020-12, without `$ref`, of keywords that engine grammars support.
Every string, list and free object is bounded, so that a weak model stops. A schema that is too large, too unusual, or
too costly as a grammar becomes any object; the output is always checked against the function's own schema.
"""

import json
from collections.abc import Sequence
from typing import Final

from chains.calls.dialects import has_known_types, modernize, write_nullable
from chains.calls.references import follow
from chains.chat_types import FunctionTool, JsonSchema
from chains.schema_weight import check_schema

__all__ = ["MAX_CALLS", "NONE", "call_schema", "calls_schema", "choice_schema", "parameters_of"]

NONE: Final = "none"
"""The choice of no function. A function of this name can still be called by name."""

MAX_STRING: Final = 1_900  # characters; llama.cpp accepts repetitions below 2,000
TIGHT_STRING: Final = 60
MAX_ITEMS: Final = 32
MAX_CALLS: Final = 8
_MAX_NODES: Final = 2_000
_MAX_DEPTH: Final = 20

_NUMBERS: Final = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems"}
)
_KEPT: Final = ("type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "required")
_ALTERNATIVES: Final = ("anyOf", "oneOf")


def parameters_of(tool: FunctionTool) -> JsonSchema:
    """Return a function tool's parameters; without any, an object without properties."""
    given = tool["function"].get("parameters")
    return given if isinstance(given, dict) else {"type": "object", "properties": {}}


def choice_schema(names: Sequence[str], *, counted: bool) -> JsonSchema:
    """Return the schema of `{"function": name}` with one of these names, and `"calls": n` if `counted`."""
    function = {"enum": list(names)}
    return _object(
        {"function": function, "calls": {"enum": list(range(MAX_CALLS + 1))}} if counted else {"function": function}
    )


def call_schema(tool: FunctionTool, *, tight: bool = False) -> JsonSchema:
    """Return the schema of `{"name", "arguments"}` for one function; `tight` for a model that did not stop."""
    arguments = _arguments(parameters_of(tool), TIGHT_STRING if tight else MAX_STRING)
    return _object({"name": {"const": tool["function"]["name"]}, "arguments": arguments})


def calls_schema(call: JsonSchema, count: int) -> JsonSchema:
    """Return the schema of `{"calls": […]}` with `count` calls of one shape."""
    return _object({"calls": {"type": "array", "minItems": count, "maxItems": count, "items": call}})


def _object(properties: JsonSchema) -> JsonSchema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


class _TooLargeError(Exception):
    pass


def _arguments(parameters: JsonSchema, max_string: int) -> JsonSchema:
    try:
        root = {**parameters, "type": "object", "nullable": False, "x-nullable": False}
        bounded = _Bounds(parameters, max_string).write(root, (), 0)
        check_schema(bounded)
    except (_TooLargeError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return {"type": "object"}
    if not bounded:
        return {"type": "object"}
    if "properties" not in bounded and not any(key in bounded for key in (*_ALTERNATIVES, "allOf")):
        free = parameters.get("additionalProperties")
        if not free:  # no parameters: OpenAI's clients often send `{"type": "object"}`
            return {"type": "object", "properties": {}, "additionalProperties": False}
    return bounded


class _Bounds:
    """Writes one function's schema with bounds, and with its references expanded."""

    def __init__(self, root: JsonSchema, max_string: int) -> None:
        self._root = root
        self._max_string = max_string
        self._nodes = 0

    def write(self, schema: object, above: tuple[str, ...], depth: int) -> JsonSchema:
        self._nodes += 1
        if self._nodes > _MAX_NODES or depth > _MAX_DEPTH:
            raise _TooLargeError
        if not isinstance(schema, dict):
            return {}  # `true`, or PHP's empty array
        schema = write_nullable(modernize(schema))
        if not has_known_types(schema):
            schema.pop("type")
        for name in _NUMBERS & schema.keys():
            if not isinstance(schema[name], int | float):
                del schema[name]
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._write_reference(reference, schema, above, depth)
        kept: JsonSchema = {key: schema[key] for key in _KEPT if key in schema}
        for key in (*_ALTERNATIVES, "allOf"):
            if isinstance(alternatives := schema.get(key), list) and alternatives:
                kept[key] = [self.write(each, above, depth + 1) for each in alternatives]
        if "enum" in kept or "const" in kept:
            return {key: kept[key] for key in ("enum", "const") if key in kept}
        return {**kept, **self._bound(schema, above, depth)}

    def _bound(self, schema: JsonSchema, above: tuple[str, ...], depth: int) -> JsonSchema:
        declared = schema.get("type")
        kinds = declared if isinstance(declared, list) else [declared]
        bounds: JsonSchema = {}
        if "string" in kinds:
            maximum = bounds["maxLength"] = min(_number(schema, "maxLength", self._max_string), self._max_string)
            if lowest := _number(schema, "minLength", 0):
                bounds["minLength"] = min(lowest, maximum)
        if "array" in kinds and schema.get("prefixItems"):
            each = [self.write(item, above, depth + 1) for item in _list(schema["prefixItems"])[:MAX_ITEMS]]
            bounds |= {"prefixItems": each, "minItems": len(each), "maxItems": len(each)}
        elif "array" in kinds:
            bounds["items"] = self.write(schema.get("items", {"type": "string"}), above, depth + 1)
            maximum = bounds["maxItems"] = min(_number(schema, "maxItems", MAX_ITEMS), MAX_STRING)
            if lowest := _number(schema, "minItems", 0):
                bounds["minItems"] = min(lowest, maximum)
        properties = given if isinstance(given := schema.get("properties"), dict) else {}
        if depth == 0 and not any(key in schema for key in (*_ALTERNATIVES, "allOf")):
            more, required = schema.get("additionalProperties", True), _list(schema.get("required", []))
            properties = {**properties, **{name: more for name in required if name not in properties}}
        if "properties" in schema or properties:
            bounds["properties"] = {name: self.write(each, above, depth + 1) for name, each in properties.items()}
            bounds["additionalProperties"] = False
        elif isinstance(more := schema.get("additionalProperties"), dict) and more:
            bounds["additionalProperties"] = self.write(more, above, depth + 1)
        return bounds

    def _write_reference(self, reference: str, schema: JsonSchema, above: tuple[str, ...], depth: int) -> JsonSchema:
        try:
            target = follow(self._root, reference)
        except LookupError:
            return {}
        if not isinstance(target, dict):
            return {}
        if reference in above:  # it is circular: end it here
            return self._cut(target)
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        return self.write({**target, **siblings}, (*above, reference), depth)

    @staticmethod
    def _cut(target: JsonSchema) -> JsonSchema:
        kind = target.get("type")
        if kind == "object":  # without properties it ends; required ones cannot be expressed
            return {"type": "object", "properties": {}, "additionalProperties": False}
        return {"type": "string", "maxLength": MAX_STRING} if kind == "string" else {"type": kind or "null"}


def _list(value: object) -> list[object]:
    """Return an array. Raises TypeError for any other value."""
    if not isinstance(value, list):
        raise TypeError("not an array")
    return value


def _number(schema: JsonSchema, name: str, default: float) -> float:
    """Return the value of a keyword whose values are numbers by now; see `_NUMBERS`."""
    value = schema.get(name)
    return value if isinstance(value, int | float) else default


def schema_to_json(schema: JsonSchema) -> str:
    """Return a schema as one line of JSON."""
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
