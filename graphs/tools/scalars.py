"""Resolves unquoted YAML scalars as the author meant them: as text where OpenAPI requires text, words as booleans.

YAML parses `version: 1.10` and the values of `enum: [1.0, 2.0]` under `type: string` as numbers. A scalar keeps its
spelling until its position is known. It becomes text where the specification, or the schema next to it, allows only
text, and keeps its type everywhere else. Pure.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wire.json import Json, JsonObject, UncheckedJson

__all__ = ["Scalar", "resolve_scalars"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number, boolean or null as it was parsed, and as it was written."""

    value: float | bool | None
    text: str


_PROSE: Final = frozenset({"title", "summary", "description", "version"})
"""Fields whose text can be empty. `description:` without a value is common in YAML."""

_TEXTS: Final = _PROSE | {
    *("openapi", "jsonSchemaDialect", "termsOfService", "name", "url", "email", "identifier", "operationId"),
    *("in", "style", "contentType", "propertyName", "scheme", "bearerFormat"),
    *("authorizationUrl", "tokenUrl", "refreshUrl", "openIdConnectUrl"),
    *("type", "format", "pattern", "contentEncoding", "contentMediaType", "$comment", "$schema"),
}
"""Fixed fields that are text in every object that has them."""

_LISTS_OF_TEXTS: Final = frozenset({"required", "tags", "type"})
_MAPS_OF_TEXTS: Final = frozenset({"mapping", "scopes"})
_MAPS: Final = frozenset(
    {"paths", "webhooks", "pathItems", "responses", "requestBodies", "headers", "securitySchemes", "callbacks"}
    | {"schemas", "parameters", "content", "encoding", "variables", "examples"}
    | {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)
"""Fields whose value is an object with the author's own names: `properties: {title: true}` has no title."""

_SWITCHES: Final = frozenset(
    {"required", "deprecated", "allowEmptyValue", "explode", "allowReserved", "nullable", "readOnly", "writeOnly"}
    | {"uniqueItems", "x-openai-isConsequential"}
)
_WORDS: Final = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
"""YAML 1.1's booleans. They are text in YAML 1.2. Only in the fields above and as values of type boolean are they meant
as booleans."""

_OF_TYPE: Final = frozenset({"default", "const", "example"})
_LISTS_OF_TYPE: Final = frozenset({"enum", "examples"})
_DATA: Final = frozenset({"value", "links"})
"""Fields whose content is the author's own."""


def resolve_scalars(node: Json) -> UncheckedJson:
    """Return a document, or an object in it, without any `Scalar`."""
    if isinstance(node, list):
        return [resolve_scalars(each) for each in node]
    if not isinstance(node, dict):
        return _data(node)
    return {key: _field(key, value, node) for key, value in node.items()}


def _field(key: str, value: Json, owner: JsonObject) -> Json:
    if key in _SWITCHES and isinstance(value, str):
        return _WORDS.get(value.lower(), value)
    if key in _DATA or (key.startswith("x-") and key not in _SWITCHES):
        return _data(value)
    if key in _OF_TYPE:
        return _of_type(value, owner)
    if isinstance(value, list):
        return _list(key, value, owner)
    if isinstance(value, dict):
        return _map(key, value)
    return _text(value, empty=key in _PROSE) if key in _TEXTS else _data(value)


def _list(key: str, value: list[Json], owner: JsonObject) -> list[Json]:
    if key in _LISTS_OF_TYPE:
        return [_of_type(each, owner) for each in value]
    if key in _LISTS_OF_TEXTS:  # `type: [string, null]` means the text
        return [_as_text(each) if _is_scalar(each) else resolve_scalars(each) for each in value]
    return [resolve_scalars(each) for each in value]


def _map(key: str, value: JsonObject) -> JsonObject:
    if key == "variables":
        return {name: _variable(each) for name, each in value.items()}
    if key in _MAPS_OF_TEXTS:
        return {name: _text(each, empty=False) for name, each in value.items()}
    if key in _MAPS:
        return {name: resolve_scalars(each) for name, each in value.items()}
    resolved: JsonObject = resolve_scalars(value)
    return resolved


def _variable(variable: UncheckedJson) -> Json:
    """Resolve a server variable, whose values are text."""
    if not isinstance(variable, dict):
        return _data(variable)
    resolved = resolve_scalars({**variable, "type": "string"})
    return {key: resolved[key] for key in variable if key != "type"}


def _of_type(value: Json, schema: Json) -> Json:
    """Resolve a value that a schema describes. It becomes text if the schema allows text but not the value's type, and
    YAML 1.1's words become booleans if the schema allows booleans but not text."""
    schema = schema if isinstance(schema, dict) else {}
    if isinstance(value, list):
        return [_of_type(each, schema.get("items")) for each in value]
    if isinstance(value, dict):
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        return {key: _of_type(each, known.get(key)) for key, each in value.items()}
    types = schema.get("type")
    allowed = {_as_text(each) for each in (types if isinstance(types, list) else [types]) if _is_scalar(each)}
    if isinstance(value, str):
        return _WORDS.get(value.lower(), value) if "boolean" in allowed and "string" not in allowed else value
    wanted = "string" in allowed and allowed.isdisjoint(_types_of(_data(value)))
    return _text(value, empty=False) if wanted else _data(value)


def _is_scalar(value: Json) -> bool:
    return not isinstance(value, dict | list)


def _types_of(value: Json) -> Iterable[str]:
    if isinstance(value, bool):
        return ("boolean",)
    if isinstance(value, int | float):
        return ("integer", "number") if value == int(value) else ("number",)
    return ("null",) if value is None else ("string",)


def _text(value: Json, *, empty: bool) -> Json:
    """Return a scalar as text. Null stays null, or becomes empty text if that is allowed (`empty`)."""
    if _data(value) is None:
        return "" if empty else None
    return _as_text(value)


def _as_text(value: Json) -> Json:
    if isinstance(value, Scalar):
        return value.text or "null"
    return json.dumps(value) if value is None or isinstance(value, bool | int | float) else value


def _data(value: Json) -> Json:
    """Return the value as it was parsed."""
    if isinstance(value, dict):
        return {key: _data(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_data(each) for each in value]
    return value.value if isinstance(value, Scalar) else value
