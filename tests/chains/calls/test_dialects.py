"""Function schemas of OpenAPI 3.0, older drafts and generators are checked and offered by their meaning."""

from functools import partial
from typing import Any

import pytest

from chains.calls.arguments import find_problems
from chains.calls.call_schemas import MAX_STRING, call_schema
from chains.calls.dialects import modernize, named_draft, write_nullable
from tests.cpu_time import limit_cpu_time

OPTIONAL = {"type": "string", "nullable": True}
POINT = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
URI = {
    "4": "http://json-schema.org/draft-04/schema#",
    "6": "http://json-schema.org/draft-06/schema#",
    "7": "https://json-schema.org/draft-07/schema",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "2020-12": "https://json-schema.org/draft/2020-12/schema#",
}


def of(schema: Any, **root: Any) -> dict[str, Any]:
    """Return a function's parameters with one property `a`."""
    return {"type": "object", "properties": {"a": schema}, **root}


CHECKED: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    # name: (the parameters, values of `a` that fit, values that do not)
    "nullable": (of(OPTIONAL), ["x", None], [1]),
    "nullable false": (of({"type": "string", "nullable": False}), ["x"], [None]),
    "nullable, Swagger's": (of({"type": "string", "x-nullable": True}), ["x", None], [1]),
    "nullable enum": (of({"type": "string", "enum": ["x"], "nullable": True}), ["x", None], ["y"]),
    "nullable beside $ref": (
        of({"$ref": "#/definitions/P", "nullable": True}, definitions={"P": POINT}),
        [None, {"x": 1}],
        [{}, 5],
    ),
    "nullable beside allOf": (of({"allOf": [POINT], "nullable": True, "description": "d"}), [None, {"x": 1}], [{}]),
    "nullable beside oneOf": (of({"oneOf": [{"type": "string"}, POINT], "nullable": True}), [None, "x"], [5]),
    "nullable in items": (of({"type": "array", "items": OPTIONAL}), [[None, "x"]], [[1]]),
    "nullable in a part that only a reference names": (
        of({"$ref": "#/components/schemas/S"}, components={"schemas": {"S": {"minimum": 0, "exclusiveMinimum": True}}}),
        [1],
        [0],
    ),
    "exclusiveMinimum true": (of({"type": "number", "minimum": 0, "exclusiveMinimum": True}), [1], [0]),
    "exclusiveMaximum false": (of({"maximum": 5, "exclusiveMaximum": False}), [5], [6]),
    "exclusiveMinimum alone": (of({"type": "number", "exclusiveMinimum": True}), [-1], ["x"]),
    "no type in a list": (of({"type": []}), [1, None], []),
    "an empty enum": (of({"type": "string", "enum": []}), ["x"], [1]),
    "no alternatives": (of({"type": "string", "anyOf": [], "oneOf": [], "allOf": []}), ["x"], [1]),
    "PHP's empty additionalProperties": (of({"type": "object", "additionalProperties": []}), [{"b": 1}], [1]),
    "additionalProperties null": (of({"type": "object", "additionalProperties": None}), [{"b": 1}], [1]),
    "multipleOf of a decimal fraction": (of({"multipleOf": 0.01}), [0.07, 19.99, 3, 1e300], [0.075]),
    "annotations of OpenAPI": (
        of(
            {
                "type": "integer",
                "format": "int32",
                "example": 5,
                "examples": {"a": {"value": 1}},
                "discriminator": {"propertyName": "k"},
                "xml": {"name": "n"},
                "externalDocs": {"url": "http://h"},
                "deprecated": True,
                "readOnly": True,
            }
        ),
        [1],
        ["x"],
    ),
    "a tuple": (
        of({"type": "array", "items": [{"type": "string"}, {"type": "integer"}]}),
        [["x", 1], ["x", 1, 5]],
        [["x", "y"]],
    ),
    "a tuple without more": (of({"items": [{"type": "string"}], "additionalItems": False}), [["x"]], [["x", 1]]),
    "a tuple with more": (of({"items": [{}], "additionalItems": {"type": "integer"}}), [[None, 1]], [[None, "x"]]),
    "dependencies": (
        of({"dependencies": {"b": ["c"], "d": {"required": ["e"]}, "f": "g"}}),
        [{"b": 1, "c": 1}],
        [{"b": 1}, {"d": 1}, {"f": 1}],
    ),
    "required in a property": (of({"type": "string", "required": True}), ["x"], [1]),
    "required null": (of({"type": "string"}, required=None), ["x"], [1]),
    "properties as a list": (of({"type": "object", "properties": []}), [{}, {"b": 1}], [1]),
    "type any": (of({"anyOf": [{"type": "any"}]}, required=["a"]), [1, "x"], []),
    "Python's types": (of({"type": "str"}), ["x"], [1]),
    "upper case": (of({"type": "INTEGER"}), [1], ["x"]),
    "a list of types, one unknown": (of({"type": ["string", "date"]}), ["x", 5], []),
    "not of unknown keywords": (of({"not": {"type": "file"}}), [1], []),
    "oneOf with unknown keywords": (of({"oneOf": [{"pattern": 5, "multipleOf": "x"}, {"type": "integer"}]}), [1], []),
    "what is odd beside what is not": (of({"type": "string"}, required=["a"], minProperties="x"), ["x"], [1]),
    "draft 4 ids": (
        of({"$ref": "#p"}, **{"$schema": URI["4"], "definitions": {"P": {**POINT, "id": "#p"}}}),
        [{"x": 1}],
        [{}],
    ),
    "draft 7 anchors": (
        of({"$ref": "#p"}, **{"$schema": URI["7"], "definitions": {"P": {**POINT, "$id": "#p"}}}),
        [{"x": 1}],
        [{}],
    ),
    "draft 7, beside a reference": (
        of({"$ref": "#/definitions/P", "type": "string"}, **{"$schema": URI["7"], "definitions": {"P": POINT}}),
        [{"x": 1}],
        [{}],
    ),
    "2019-09, beside a reference": (
        of({"$ref": "#/$defs/P", "minProperties": 2}, **{"$schema": URI["2019-09"], "$defs": {"P": POINT}}),
        [{"x": 1, "y": 1}],
        [{"x": 1}],
    ),
    "2020-12 anchors": (
        of({"$ref": "#p"}, **{"$schema": URI["2020-12"], "$defs": {"P": {**POINT, "$anchor": "p"}}}),
        [{"x": 1}],
        [{}],
    ),
    "an id of its own": (of({"$ref": "#/$defs/P"}, **{"$id": "https://h/x", "$defs": {"P": POINT}}), [{"x": 1}], [{}]),
    "a property named id": (
        of({"properties": {"id": {"type": "integer"}}}, **{"$schema": URI["4"]}),
        [{"id": 1}],
        [{"id": "x"}],
    ),
    "an unknown $schema": (
        of(OPTIONAL, **{"$schema": "https://spec.openapis.org/oas/3.0/schema/2021-09-28"}),
        [None],
        [1],
    ),
    "a $schema that is none": (of(OPTIONAL, **{"$schema": 5}), [None], [1]),
    "a property named $schema": ({"properties": {"$schema": {"type": "string"}, "a": {}}}, [1], []),
}


@pytest.mark.parametrize(("parameters", "right", "wrong"), CHECKED.values(), ids=CHECKED)
def test_arguments_are_checked_by_the_schema_s_meaning(parameters: Any, right: Any, wrong: Any) -> None:
    assert [find_problems(parameters, {"a": value}) for value in right] == [[]] * len(right)
    assert [value for value in wrong if not find_problems(parameters, {"a": value})] == []


@pytest.mark.parametrize("uri", URI.values(), ids=URI)
def test_keywords_of_every_draft_are_checked_under_each(uri: str) -> None:
    schema = of({"type": "array", "items": [OPTIONAL], "minItems": 1}, required=["a"], **{"$schema": uri})
    assert named_draft(schema) in URI
    assert URI[named_draft(schema)] == uri
    assert not find_problems(schema, {"a": [None]})
    for wrong in ({}, {"a": []}, {"a": [1]}):
        assert find_problems(schema, wrong)


@pytest.mark.parametrize("uri", URI.values(), ids=URI)
def test_a_nested_schema_is_bounded_too(uri: str) -> None:
    inner = {"$schema": uri, "pattern": "(a+)+$"}
    for schema in (
        of({"allOf": [inner]}, **{"$schema": uri}),
        of({"$ref": "#/definitions/I"}, definitions={"I": inner}),
    ):
        assert not limit_cpu_time(1.0, partial(find_problems, schema, {"a": "a" * 40 + "!"}))


OFFERED: dict[str, tuple[Any, Any]] = {
    # name: (the property, its form for constrained decoding)
    "nullable": (OPTIONAL, {"type": ["string", "null"], "maxLength": MAX_STRING}),
    "nullable enum": ({"type": "string", "enum": ["x"], "nullable": True}, {"enum": ["x", None]}),
    "nullable object": (
        {"$ref": "#/definitions/P", "nullable": True},
        {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"x": {"type": "number"}},
                    "required": ["x"],
                    "additionalProperties": False,
                },
                {"type": "null"},
            ]
        },
    ),
    "nullable list": (
        {"type": "array", "items": {"type": "integer"}, "nullable": True},
        {"type": ["array", "null"], "items": {"type": "integer"}, "maxItems": 32},
    ),
    "exclusiveMinimum": (
        {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        {"type": "number", "exclusiveMinimum": 0},
    ),
    "exclusiveMinimum false": (
        {"type": "number", "minimum": 0, "exclusiveMinimum": False},
        {"type": "number", "minimum": 0},
    ),
    "annotations": (
        {"type": "integer", "format": "int64", "example": 1, "readOnly": True, "xml": {}},
        {"type": "integer"},
    ),
    "a tuple": (
        {"type": "array", "items": [{"type": "integer"}, {"type": "boolean"}]},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "minItems": 2, "maxItems": 2},
    ),
    "Python's types": ({"type": "int"}, {"type": "integer"}),
    "any": ({"type": "any"}, {}),
    "unknown keywords": ({"type": ["string", "file"], "minimum": 0}, {"minimum": 0}),
    "required in it": ({"type": "integer", "required": True}, {"type": "integer"}),
}


@pytest.mark.parametrize(("schema", "made"), OFFERED.values(), ids=OFFERED)
def test_constrained_decoding_gets_a_form_that_engines_support(schema: Any, made: Any) -> None:
    parameters = of(schema, definitions={"P": POINT}, nullable=True, required=None)
    shape = call_schema({"type": "function", "function": {"name": "f", "parameters": parameters}})
    arguments = shape["properties"]["arguments"]
    assert arguments == {"type": "object", "properties": {"a": made}, "additionalProperties": False}


def test_a_node_of_the_newest_draft_stays_unchanged() -> None:
    schema = {"type": ["string", "null"], "minimum": 0, "exclusiveMinimum": 1, "required": ["a"], "prefixItems": [{}]}
    assert modernize(schema) is schema
    assert write_nullable(schema) == schema
