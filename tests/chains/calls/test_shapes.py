"""Schemas for constrained decoding: finite, bounded, and never wider than the function's own where that is known."""

import json
from typing import Any

import pytest

from chains.calls.shapes import MAX_STRING, call_shape, calls_shape, choice_shape


def shape(parameters: Any) -> dict[str, Any]:
    made: dict[str, Any] = call_shape({"type": "function", "function": {"name": "f", "parameters": parameters}})
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


def test_what_grammars_do_not_know_is_left_out() -> None:
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
        {"properties": {"a": 5}},
        {"properties": 5},
        {"properties": {f"p{i}": {"anyOf": [{"type": "string"}] * 20} for i in range(500)}},
    ],
    ids=["nowhere", "elsewhere", "odd property", "odd properties", "huge"],
)
def test_a_schema_that_cannot_be_written_out_is_any_object(parameters: Any) -> None:
    assert shape({**parameters, "additionalProperties": True}) == {"type": "object"}


def test_alternatives_are_kept() -> None:
    either = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    made = shape(object_of(a=either))["properties"]["a"]
    assert made == {"anyOf": [{"type": "string", "maxLength": MAX_STRING}, {"type": "null"}]}


def test_the_choice_and_several_calls_have_their_form() -> None:
    assert choice_shape(["none", "f"], counted=False)["properties"] == {"function": {"enum": ["none", "f"]}}
    assert choice_shape(["none", "f"], counted=True)["required"] == ["function", "calls"]
    calls = calls_shape({"type": "function", "function": {"name": "f"}}, 3)["properties"]["calls"]
    assert (calls["minItems"], calls["maxItems"]) == (3, 3)
    assert calls["items"]["properties"]["name"] == {"const": "f"}
