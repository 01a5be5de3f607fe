"""Replaces PHP's empty arrays in data that no model describes: JSON Schemas, OpenAPI documents, passed-through bodies.

PHP's `json_encode` writes an empty object as `[]`. A `Fill` describes where in a value an object is meant; there `[]`
becomes `{}`. Everything else stays as it was sent, and nothing is refused here. `wire.leniency` handles data that a
model describes.
"""

from collections.abc import Callable, Mapping
from typing import Final

from wire.json import Json, UncheckedJson

__all__ = ["fill_action", "fill_document", "fill_forwarded", "fill_langserve", "fill_schema"]

Fill = Callable[[Json], Json]
"""Returns a value with `{}` for `[]` where an object is meant; the same value if there is nothing to change."""


def _object(**fields: Fill) -> Fill:
    """Make the `Fill` of an object with the `Fill`s of some of its fields."""
    return lambda value: _filled(value, lambda name, _: fields.get(name))


def _map(inner: Fill) -> Fill:
    """Make the `Fill` of an object with free names and values of one `Fill`."""
    return lambda value: _filled(value, lambda *_: inner)


def _list(inner: Fill) -> Fill:
    """Make the `Fill` of an array; an empty one stays one."""

    def fill(value: Json) -> Json:
        return [inner(each) for each in value] if isinstance(value, list) else value

    return fill


def _filled(value: Json, fill_of: Callable[[str, Json], Fill | None]) -> Json:
    if isinstance(value, list) and not value:
        return {}
    if not isinstance(value, dict):
        return value
    found = ((name, inner, fill_of(name, inner)) for name, inner in value.items())
    return {name: inner if fill is None else fill(inner) for name, inner, fill in found}


_any_object: Final = _object()


# --- JSON Schema ----------------------------------------------------------------------------------------------------


def fill_schema(value: Json) -> Json:
    """Fill a JSON Schema of any draft, or a schema of OpenAPI 3."""
    return _filled(value, lambda name, inner: _schema_part(value, name, inner))


def _schema_part(schema: UncheckedJson, name: str, inner: Json) -> Fill | None:
    if name == "items" and (inner or "additionalItems" in schema):  # a tuple of older drafts
        return _list(fill_schema) if isinstance(inner, list) else fill_schema
    if name == "default":
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return _any_object if "object" in kinds and "array" not in kinds else None
    return _SCHEMA.get(name)


_SCHEMA: Final[Mapping[str, Fill]] = {
    **dict.fromkeys(("$defs", "definitions", "dependentSchemas", "patternProperties", "properties"), _map(fill_schema)),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _list(fill_schema)),
    **dict.fromkeys(
        (
            *("additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"),
            *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
        ),
        fill_schema,
    ),
    **dict.fromkeys(("dependencies", "dependentRequired", "discriminator", "externalDocs", "xml"), _any_object),
}

# --- OpenAPI --------------------------------------------------------------------------------------------------------


def _media(value: Json) -> Json:
    return _MEDIA(value)


def _parameter(value: Json) -> Json:
    return _PARAMETER(value)


def _path_item(value: Json) -> Json:
    return _PATH_ITEM(value)


_HEADER: Final = _object(schema=fill_schema, content=_map(_media))
_ENCODING: Final = _object(headers=_map(_HEADER))
_MEDIA: Final = _object(schema=fill_schema, encoding=_map(_ENCODING))
_PARAMETER: Final = _object(schema=fill_schema, content=_map(_media))
_BODY: Final = _object(content=_map(_media))
_LINK: Final = _object(parameters=_any_object, server=_object(variables=_map(_any_object)))
_RESPONSE: Final = _object(headers=_map(_HEADER), content=_map(_media), links=_map(_LINK))
_SERVERS: Final = _list(_object(variables=_map(_any_object)))
_OPERATION: Final = _object(
    parameters=_list(_parameter),
    requestBody=_BODY,
    responses=_map(_RESPONSE),
    callbacks=_map(_map(_path_item)),
    security=_list(_any_object),
    servers=_SERVERS,
    externalDocs=_any_object,
)
_PATH_ITEM: Final = _object(
    **dict.fromkeys(("delete", "get", "head", "options", "patch", "post", "put", "trace"), _OPERATION),
    parameters=_list(_parameter),
    servers=_SERVERS,
)
_FLOW: Final = _object(scopes=_any_object)
_COMPONENTS: Final = _object(
    schemas=_map(fill_schema),
    responses=_map(_RESPONSE),
    parameters=_map(_parameter),
    requestBodies=_map(_BODY),
    headers=_map(_HEADER),
    securitySchemes=_map(_object(flows=_map(_FLOW))),
    links=_map(_LINK),
    callbacks=_map(_map(_path_item)),
    pathItems=_map(_path_item),
    examples=_map(_any_object),
)
fill_document: Final = _object(
    info=_object(contact=_any_object, license=_any_object),
    servers=_SERVERS,
    paths=_map(_path_item),
    webhooks=_map(_path_item),
    components=_COMPONENTS,
    security=_list(_any_object),
    externalDocs=_any_object,
)
"""Fill an OpenAPI document that was parsed."""

# --- bodies ---------------------------------------------------------------------------------------------------------

fill_action: Final = _object(headers=_any_object, auth=_any_object, openapi_spec=fill_document)
"""Fill the `data` of an action."""

_FUNCTION: Final = _object(parameters=fill_schema)
_CONFIG: Final = _object(configurable=_any_object, metadata=_any_object)
_INPUT: Final = _object(tool_outputs=_list(_any_object))

fill_forwarded: Final = _object(
    **dict.fromkeys(
        ("audio", "chat_template_kwargs", "logit_bias", "metadata", "prediction", "stream_options"), _any_object
    ),
    messages=_list(_any_object),
    response_format=_object(json_schema=_object(schema=fill_schema)),
    tools=_list(_object(function=_FUNCTION)),
    tool_choice=_object(function=_any_object),
    functions=_list(_FUNCTION),
    web_search_options=_object(user_location=_any_object),
)
"""Fill the body of a chat completion, or of another request that is passed through: they share these names."""

fill_langserve: Final = _object(
    input=_INPUT,
    inputs=_list(_INPUT),
    config=lambda value: _list(_CONFIG)(value) if isinstance(value, list) and value else _CONFIG(value),
    kwargs=_any_object,
)
"""Fill the body of a call of LangServe's."""
