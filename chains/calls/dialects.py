"""Converts schemas of older JSON Schema drafts and OpenAPI 3.0 to draft 2020-12, one node at a time. Pure.

Programs take function schemas from OpenAPI documents, Zod, NSwag, PHP arrays and Python annotations. Their meaning is
clear, although no single dialect defines all of it. Children are not converted: callers convert them on reaching them,
so that references into any part of a schema keep their paths.
"""

import re
from types import UnionType
from typing import Final

from chains.chat_types import JsonSchema

__all__ = ["has_known_types", "is_nullable", "modernize", "named_draft", "write_nullable"]

_TYPES: Final = ("string", "number", "integer", "boolean", "array", "object", "null")
_ALIASES: Final = {
    "str": "string",
    "int": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
    "none": "null",
}
"""Type names of Python and Java → JSON Schema's."""

_ANY: Final = frozenset({"any", "mixed"})

_BOUNDS: Final = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
_NULLABLE: Final = ("nullable", "x-nullable")  # OpenAPI 3.0, Swagger 2.0
_FORMS: Final[dict[str, type | UnionType]] = {
    "type": object,
    "required": list,
    "enum": list,
    "properties": dict,
    "additionalProperties": dict | bool,
    "allOf": list,
    "anyOf": list,
    "oneOf": list,
}
"""The type of each keyword's value; others (`true` in a property, null, PHP's empty array) have no effect."""
_NEVER_EMPTY: Final = frozenset({"type", "enum", "allOf", "anyOf", "oneOf"})
_APPLIED: Final = frozenset({"$ref", "allOf", "anyOf", "oneOf", "not", "if", "const"})
"""Keywords that can forbid null even if the list of types includes it."""
_NOTES: Final = ("title", "description", "default")
_SCHEMA_URI: Final = re.compile(r"draft[-/]?(0?[4-7]|2019-09|2020-12)(?=[/#]|\Z)")


def named_draft(schema: JsonSchema) -> str:
    """Return the draft that `$schema` names (`4` to `7`, `2019-09`, `2020-12`); empty for none or an unknown one."""
    uri = schema.get("$schema")
    found = _SCHEMA_URI.search(uri) if isinstance(uri, str) else None
    return found[1].lstrip("0") if found else ""


def has_known_types(schema: JsonSchema) -> bool:
    """Return whether JSON Schema knows all types of a node."""
    types = schema.get("type", [])
    return all(kind in _TYPES for kind in (types if isinstance(types, list) else [types]))


def is_nullable(schema: JsonSchema) -> bool:
    """Return whether a node allows null by an OpenAPI keyword."""
    return any(schema.get(name) is True for name in _NULLABLE)


def write_nullable(schema: JsonSchema) -> JsonSchema:
    """Return a node with OpenAPI's `nullable` written as a type or an alternative."""
    rest = {name: value for name, value in schema.items() if name not in _NULLABLE}
    if not is_nullable(schema):
        return rest
    if not _APPLIED.isdisjoint(rest):
        notes: JsonSchema = {name: rest.pop(name) for name in _NOTES if name in rest}
        return {**notes, "anyOf": [rest, {"type": "null"}]}
    kinds = rest.get("type")
    if kinds:
        rest["type"] = list(dict.fromkeys([*(kinds if isinstance(kinds, list) else [kinds]), "null"]))
    if isinstance(values := rest.get("enum"), list) and None not in values:
        rest["enum"] = [*values, None]
    return rest


def modernize(schema: JsonSchema) -> JsonSchema:
    """Return a node with the keywords of draft 2020-12 and `nullable`, without keywords that have no meaning."""
    if _is_modern(schema):
        return schema
    node = dict(schema)
    for bound, exclusive in _BOUNDS:
        if isinstance(node.get(exclusive), bool) and node.pop(exclusive) and bound in node:
            node[exclusive] = node.pop(bound)
    for name in [name for name, value in node.items() if not _is_well_formed(name, value)]:
        del node[name]
    if "type" in node and (kinds := _types(node.pop("type"))):
        node["type"] = kinds
    _write_tuple(node)
    _write_dependencies(node)
    return node


def _is_modern(schema: JsonSchema) -> bool:
    kinds = schema.get("type", "string")
    return not (
        (type(kinds) is not str and not isinstance(kinds, list))
        or not has_known_types(schema)
        or isinstance(schema.get("exclusiveMinimum"), bool)
        or isinstance(schema.get("exclusiveMaximum"), bool)
        or isinstance(schema.get("items"), list)
        or "additionalItems" in schema
        or "dependencies" in schema
        or not all(_is_well_formed(name, schema[name]) for name in _FORMS if name in schema)
    )


def _is_well_formed(name: str, value: object) -> bool:
    return isinstance(value, _FORMS.get(name, object)) and (name not in _NEVER_EMPTY or bool(value))


def _types(declared: object) -> str | list[str] | None:
    """Return a type or a list of types, unknown ones unchanged; None if any value is allowed."""
    names = [str(each).lower() for each in (declared if isinstance(declared, list) else [declared])]
    kinds = [_ALIASES.get(name, name) for name in names]
    if declared is None or not kinds or not _ANY.isdisjoint(kinds):
        return None
    return kinds if isinstance(declared, list) else kinds[0]


def _write_tuple(node: JsonSchema) -> None:
    rest = node.pop("additionalItems", None)
    if isinstance(node.get("items"), list):
        node.setdefault("prefixItems", node.pop("items"))
        node.pop("items", None)
        if not node["prefixItems"]:  # it must not be empty, and an empty one has no effect
            del node["prefixItems"]
        if rest is not None:
            node["items"] = rest


def _write_dependencies(node: JsonSchema) -> None:
    dependencies = node.pop("dependencies", None)
    if not isinstance(dependencies, dict):
        return
    needed = {name: [each] if isinstance(each, str) else each for name, each in dependencies.items()}
    lists = {name: each for name, each in needed.items() if isinstance(each, list)}
    schemas = {name: each for name, each in needed.items() if isinstance(each, dict | bool)}
    for keyword, value in (("dependentRequired", lists), ("dependentSchemas", schemas)):
        if value:
            node.setdefault(keyword, value)
