"""Unquoted YAML scalars in OpenAPI documents get the type that their position requires."""

import json
from typing import Any

import pytest

from graphs.tools.document import read_document
from tests.graphs.tools.apis import operation
from wire.errors import InvalidRequest


def read(text: str) -> dict[str, Any]:
    return read_document(text, InvalidRequest)


def schema_of(version: str, schema: str) -> Any:
    """Return a parameter's schema after parsing."""
    text = (
        f"openapi: {version}\ninfo: {{title: t, version: 1}}\nservers: [{{url: https://api.test}}]\n"
        f"paths: {{/x: {{get: {{parameters: [{{name: a, in: query, schema: {schema}}}], "
        "responses: {200: {description: ok}}}}}\n"
    )
    return read(text)["paths"]["/x"]["get"]["parameters"][0]["schema"]


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{type: string, default: 1}", {"default": "1"}),
        ("{type: string, default: 1.10}", {"default": "1.10"}),
        ("{type: string, enum: [1.0, 2.50, 1e3]}", {"enum": ["1.0", "2.50", "1e3"]}),
        ("{type: string, enum: [yes, no, on, off]}", {"enum": ["yes", "no", "on", "off"]}),
        ("{type: string, enum: [true, False]}", {"enum": ["true", "False"]}),
        ("{type: string, enum: [007, 0x1F, 12:30]}", {"enum": ["007", "0x1F", "12:30"]}),
        ("{type: string, format: date, default: 2024-01-01}", {"default": "2024-01-01"}),
        ("{type: string, example: 3.10}", {"example": "3.10"}),
        ("{type: string, title: 2024, description: 1.0}", {"title": "2024", "description": "1.0"}),
        ("{type: string, description: }", {"description": ""}),
        ("{type: array, items: {type: string}, default: [1, 2.50]}", {"default": ["1", "2.50"]}),
        ("{type: object, properties: {a: {type: string}}, default: {a: 1.0}}", {"default": {"a": "1.0"}}),
        ("{type: object, required: [1, on], properties: {1: {}, on: {}}}", {"required": ["1", "on"]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_scalar_is_text_where_the_schema_allows_only_text(version: str, written: str, meant: dict[str, Any]) -> None:
    schema = schema_of(version, written)
    assert {key: schema[key] for key in meant} == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{type: integer, default: 1}", 1),
        ("{type: number, default: 2.50}", 2.5),
        ("{type: number, default: 1e3}", 1000.0),
        ("{type: boolean, default: false}", False),
        ("{type: boolean, default: yes}", True),
        ("{type: boolean, default: Off}", False),
        ("{type: [boolean, string], default: no}", "no"),
        ("{type: [string, number], default: 1.0}", 1.0),
        ("{type: [string, null], default: null}", None),
        ("{default: 1.0}", 1.0),
        ("{type: object, default: {a: 1.0}}", {"a": 1.0}),
        ("{type: array, items: {type: integer}, default: [1, 2]}", [1, 2]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_scalar_keeps_its_type_where_the_schema_allows_it(written: str, meant: Any) -> None:
    found = schema_of("3.1.0", written)["default"]
    assert (found, type(found)) == (meant, type(meant))


def test_bounds_stay_numbers_and_a_null_type_is_a_name() -> None:
    schema = schema_of("3.1.0", "{type: [number, null], minimum: 1.0, maximum: 1e2, multipleOf: 0.5}")
    assert schema == {"type": ["number", "null"], "minimum": 1.0, "maximum": 100.0, "multipleOf": 0.5}


def test_properties_with_the_names_of_fields_are_schemas() -> None:
    written = (
        "{type: object, properties: {title: true, version: {type: number, default: 1.0}, required: {type: string}}}"
    )
    properties = schema_of("3.1.0", written)["properties"]
    assert properties == {"title": True, "version": {"type": "number", "default": 1.0}, "required": {"type": "string"}}


DOCUMENT = """
openapi: 3.1
info: {title: 2024, version: 1.10, description: , license: {name: 2}}
servers: [{url: "https://api.test/{v}", variables: {v: {default: 2.0, enum: [1.10, 2.0]}}}]
tags: [{name: 1}]
paths:
  /x:
    get:
      operationId: 123
      summary: no
      tags: [1, on]
      x-openai-isConsequential: yes
      parameters:
        - {name: 5, in: query, required: yes, explode: no, schema: {type: array}, examples: {a: {summary: 1, value: 2}}}
      responses:
        200: {description: 200}
        4XX: {description: ~}
        default: {description: null}
"""


def test_fixed_fields_are_text_as_written() -> None:
    read_as = read(DOCUMENT)
    info, get = read_as["info"], read_as["paths"]["/x"]["get"]
    assert info == {"title": "2024", "version": "1.10", "description": "", "license": {"name": "2"}}
    assert read_as["servers"][0]["variables"]["v"] == {"default": "2.0", "enum": ["1.10", "2.0"]}
    assert (get["operationId"], get["summary"], get["tags"]) == ("123", "no", ["1", "on"])
    assert get["parameters"][0]["examples"] == {"a": {"summary": "1", "value": 2}}
    assert list(get["responses"]) == ["200", "4XX", "default"]
    assert [each["description"] for each in get["responses"].values()] == ["200", "", ""]


def test_words_are_booleans_where_booleans_are_expected() -> None:
    made = operation(DOCUMENT)
    (field,) = made.fields
    assert (field.name, field.required, field.explode, made.is_consequential) == ("5", True, False, True)
    assert made.server == "https://api.test/2.0"


def test_json_text_and_objects_are_parsed_alike() -> None:
    made: Any = {
        "openapi": "3.0.3",
        "info": {"title": 5, "version": 1.5},
        "servers": [{"url": "https://api.test"}],
        "paths": {"/x": {"get": {"responses": {"200": {"description": True}}}}},
    }
    for source in (made, json.dumps(made)):
        found = read_document(source, InvalidRequest)
        assert found["info"] == {"title": "5", "version": "1.5"}
        assert found["paths"]["/x"]["get"]["responses"]["200"]["description"] == "true"


@pytest.mark.parametrize("kind", ["{}", "[[string]]", "[{a: b}]", "[1, {}]"])
def test_a_type_that_is_no_name_is_refused(kind: str) -> None:
    for value in ("default: 1.0", "enum: [1.0]", "default: {a: 1}"):
        with pytest.raises(InvalidRequest):
            schema_of("3.1.0", f"{{type: {kind}, {value}}}")


@pytest.mark.parametrize("version", ["3", "3.10", "3.2.0", "2.0", "true", ""])
def test_an_unsupported_version_is_quoted_as_written(version: str) -> None:
    text = f"openapi: {version}\ninfo: {{title: t, version: 1}}\npaths: {{}}"
    with pytest.raises(InvalidRequest, match=f"`#/openapi` is `{version or None}`"):
        read(text)


def test_a_parameter_that_refers_to_a_schema_is_refused() -> None:
    item = {"parameters": [{"$ref": "#/components/schemas/N"}], "get": {"responses": {"200": {"description": "ok"}}}}
    made: Any = {"openapi": "3.0.3", "info": {"title": "t", "version": "1"}, "paths": {"/x": item}}
    made["components"] = {"schemas": {"N": {"type": "string"}}}
    with pytest.raises(InvalidRequest, match="the wrong kind"):
        read_document(made, InvalidRequest)
