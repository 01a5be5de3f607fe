"""Arguments are checked against their schema: errors are reported, and no hostile schema hangs or breaks the check."""

from typing import Any

import pytest

from chains.calls.arguments import MAX_ARGUMENTS, find_problems, parse_arguments, portable_arguments
from tests.cpu_time import limit_cpu_time

PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}


def bomb(depth: int = 40) -> dict[str, Any]:
    levels: dict[str, Any] = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(depth)}
    return {"$defs": {**levels, f"d{depth}": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/d0"}}}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"c": value}
    return value


@pytest.mark.parametrize(
    ("value", "problems"),
    [
        ({"place": "Rome"}, ""),
        ({}, "arguments: 'place' is a required property"),
        ({"place": 5}, "`place`: 5 is not of type 'string'"),
    ],
    ids=["fits", "missing", "wrong type"],
)
def test_a_problem_is_reported_with_its_path(value: Any, problems: str) -> None:
    assert "; ".join(find_problems(PLACE, value)) == problems


HOSTILE: dict[str, tuple[Any, Any]] = {
    "references that double at every level": (bomb(), {"a": 1}),
    "a circle": ({"$ref": "#"}, {"a": 1}),
    "a pattern without end": ({"properties": {"a": {"pattern": "(a+)+$"}}}, {"a": "a" * 40 + "!"}),
    "a pattern of names": ({"patternProperties": {"(a+)+$": {}}, "additionalProperties": False}, {"a" * 40 + "!": 1}),
    "a pattern of other names": ({"propertyNames": {"pattern": "(a+)+$"}}, {"a" * 40 + "!": 1}),
    "a reference to another host": ({"$ref": "http://127.0.0.1:9/schema"}, {"a": 1}),
    "a thousand alternatives of each item": (
        {"properties": {"a": {"items": {"anyOf": [{"const": i} for i in range(1000)]}}}},
        {"a": [5000] * 5000},
    ),
    "unique among many": ({"properties": {"a": {"uniqueItems": True}}}, {"a": [{"x": i} for i in range(20_000)]}),
    "a type that is none": ({"type": "objekt"}, {"a": 1}),
    "properties that are none": ({"properties": 5}, {"a": 1}),
    "a property that is none": ({"properties": {"a": 5}}, {"a": 1}),
    "a multiple of nothing": ({"properties": {"a": {"multipleOf": 0}}}, {"a": 1}),
    "a dynamic reference to nothing": ({"$dynamicRef": "#x"}, {"a": 1}),
    "no schema at all": ([], {"a": 1}),
}


@pytest.mark.parametrize(("schema", "value"), HOSTILE.values(), ids=HOSTILE)
def test_no_schema_hangs_or_breaks_the_check_and_unchecked_values_pass(schema: Any, value: Any) -> None:
    assert limit_cpu_time(1, lambda: find_problems(schema, value)) == []


def test_a_recursive_schema_is_followed_to_the_value_s_depth() -> None:
    node = {"type": "object", "properties": {"c": {"$ref": "#/$defs/node"}, "v": {"type": "integer"}}}
    schema = {"$defs": {"node": node}, "$ref": "#/$defs/node"}
    assert find_problems(schema, {"c": {"c": {"v": 1}}}) == []
    assert find_problems(schema, {"c": {"c": {"v": "x"}}}) == ["`c.c.v`: 'x' is not of type 'integer'"]
    assert find_problems(schema, nested(300)) == ["they nest too deeply"]


@pytest.mark.parametrize("text", ["", "  ", "null", "{}"])
def test_missing_and_null_arguments_are_an_empty_object(text: str) -> None:
    assert parse_arguments(text) == ({}, "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'{"a": "\ud83d"}', "\ufffd"),
        (r'{"a": "x\uDE00y"}', "x\ufffdy"),
        (r'{"a": "\ud83d\ude00"}', "\U0001f600"),
        (r'{"a": "\\ud83d"}', r"\ud83d"),
    ],
    ids=["first half", "second half", "whole", "no escape"],
)
def test_a_lone_surrogate_is_replaced(text: str, value: str) -> None:
    assert parse_arguments(text) == ({"a": value}, "")


@pytest.mark.parametrize(
    ("text", "why"),
    [("[1]", "not a JSON object"), ("{", "not JSON"),
        ("[" * 99_000, "not JSON"), (" " * (MAX_ARGUMENTS + 1), "at most")],
    ids=["list", "half", "deep", "long"],
)  # fmt: skip
def test_arguments_that_are_not_an_object_are_reported(text: str, why: str) -> None:
    value, problem = parse_arguments(text)
    assert value is None
    assert why in problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2.0**64),
        ("-9223372036854775809", -(2.0**63)),
        ("1" * 400, None),
        ("[1e400, NaN, -Infinity]", [None, None, None]),
        ('"\\ud83d!"', "\ufffd!"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("[true, 1.5, null]", [True, 1.5, None]),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_history_contains_arguments_that_can_be_stored_and_sent(text: str, value: Any) -> None:
    assert portable_arguments(f'{{"a": {text}}}') == {"a": value}
    assert portable_arguments(f'{{"a": {{"b": [{text}]}}}}') == {"a": {"b": [value]}}


@pytest.mark.parametrize(
    "text",
    ["[1]", "hello", "null", "", '{"a": ' + "[" * 300 + "]" * 300 + "}"],
    ids=["list", "text", "null", "nothing", "deep"],
)
def test_a_history_omits_arguments_that_are_not_an_object(text: str) -> None:
    assert portable_arguments(text) == {}
