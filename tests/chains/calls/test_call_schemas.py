"""Schemas for constrained decoding: finite, bounded, and, if known, never wider than the function's own."""

import json
from typing import Any

import pytest

from chains.calls.call_schemas import MAX_STRING, call_schema, calls_schema, choice_schema


def shape(parameters: Any) -> dict[str, Any]:
    made: dict[str, Any] = call_schema({"type": "function", "function": {"name": "f", "parameters": parameters}})
    assert "$ref" not in json.dumps(made)
    arguments: dict[str, Any] = made["properties"]["arguments"]
    return arguments


def object_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


def test_strings_lists_and_objects_are_bounded() -> None:
    made = shape(object_of(a={"type": "string"}, b={"type": "array"}, c={"type": ["string", "null"], "maxLength": 5}))
    assert made["additionalProperties"] is False
    assert made["required"] == ["a", "b", "c"]
    assert made["properties"]["a"] == {"type": "string", "maxLength": MAX_STRING}
    assert made["properties"]["b"]["items"] == {"type": "string", "maxLength": MAX_STRING}
    assert made["properties"]["b"]["maxItems"] == 32
    assert made["properties"]["c"] == {"type": ["string", "null"], "maxLength": 5}


def test_keywords_unknown_to_grammars_are_left_out() -> None:
    odd = {"type": "string", "pattern": "^(a+)+$", "format": "date", "description": "d", "default": "x", "title": "t"}
    assert shape(object_of(a=odd))["properties"]["a"] == {"type": "string", "maxLength": MAX_STRING}
    assert shape(object_of(a={"enum": ["x", 1, None], "type": "string"}))["properties"]["a"] == {"enum": ["x", 1, None]}


def test_references_are_written_out() -> None:
    made = shape({**object_of(a={"$ref": "#/$defs/p"}), "$defs": {"p": object_of(x={"type": "integer"})}})
    assert made["properties"]["a"]["properties"]["x"] == {"type": "integer"}
    assert "$defs" not in made


def test_a_schema_that_contains_itself_is_cut() -> None:
    tree = {"type": "object", "properties": {"value": {"type": "string"}, "child": {"$ref": "#/$defs/tree"}}}
    made = shape({**object_of(root={"$ref": "#/$defs/tree"}), "$defs": {"tree": tree}})
    assert made["properties"]["root"]["properties"]["child"] == NOTHING


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"type": "object", "properties": {}}])
def test_a_function_without_parameters_takes_none(parameters: Any) -> None:
    assert shape(parameters) == NOTHING


@pytest.mark.parametrize(
    "parameters",
    [
        {"$ref": "#/nowhere"},
        {"$ref": "http://127.0.0.1:9/x"},
        {"properties": 5},
        {"properties": {f"p{i}": {"anyOf": [{"type": "string"}] * 20} for i in range(500)}},
    ],
    ids=["nowhere", "elsewhere", "odd properties", "huge"],
)
def test_a_schema_that_cannot_be_written_out_is_any_object(parameters: Any) -> None:
    assert shape({**parameters, "additionalProperties": True}) == {"type": "object"}


HUGE = {f"p{i}": {"anyOf": [{"type": "string"}] * 20} for i in range(500)}


@pytest.mark.parametrize("parameters", [{"$ref": "#/nowhere"}, {"$ref": "Other.json"}, {"properties": HUGE}])
def test_a_schema_that_cannot_be_written_out_still_takes_arguments(parameters: Any) -> None:
    assert shape(parameters) == {"type": "object"}


@pytest.mark.parametrize(
    "odd",
    [5, None, [], "string", {"$ref": "#/nowhere"}, {"$ref": "#anchor"}, {"anyOf": []}, {"enum": []}, {"minimum": "0"}],
    ids=str,
)
def test_one_odd_property_accepts_anything_and_affects_no_other(odd: Any) -> None:
    assert shape(object_of(a=odd, b={"type": "integer"}))["properties"] == {"a": {}, "b": {"type": "integer"}}


def test_odd_limits_of_a_string_or_list_are_ignored() -> None:
    odd = {"type": ["string", "array"], "minLength": None, "maxLength": "5", "minItems": None, "maxItems": None}
    made = shape(object_of(a=odd))["properties"]["a"]
    assert (made["maxLength"], made["maxItems"]) == (MAX_STRING, 32)
    assert not {"minLength", "minItems"} & made.keys()


@pytest.mark.parametrize(
    ("more", "written"),
    [({}, {}), ({"properties": {"a": {}}}, {}), ({"additionalProperties": {"type": "integer"}}, {"type": "integer"})],
    ids=["no properties", "not among them", "additional properties"],
)
def test_required_properties_can_always_be_given(more: Any, written: Any) -> None:
    made = shape({"type": "object", "required": ["b"], **more})
    assert made["properties"]["b"] == written


def test_percent_encoded_references_are_followed() -> None:
    made = shape({**object_of(a={"$ref": "#/definitions/Page%C2%ABX%C2%BB"}), "definitions": {"Page«X»": {"const": 1}}})
    assert made["properties"]["a"] == {"const": 1}


def test_alternatives_are_kept() -> None:
    either = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    made = shape(object_of(a=either))["properties"]["a"]
    assert made == {"anyOf": [{"type": "string", "maxLength": MAX_STRING}, {"type": "null"}]}


def test_the_choice_and_several_calls_have_their_form() -> None:
    assert choice_schema(["none", "f"], counted=False)["properties"] == {"function": {"enum": ["none", "f"]}}
    assert choice_schema(["none", "f"], counted=True)["required"] == ["function", "calls"]
    calls = calls_schema(call_schema({"type": "function", "function": {"name": "f"}}), 3)["properties"]["calls"]
    assert (calls["minItems"], calls["maxItems"]) == (3, 3)
    assert calls["items"]["properties"]["name"] == {"const": "f"}
