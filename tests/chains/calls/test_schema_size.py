"""Checks on the event loop are always small, and all others run in a child process."""

import json
import time
from typing import Any

import pytest

from chains.calls.arguments import find_problems
from chains.calls.checks import check_arguments, find_uncheckable
from chains.calls.schema_size import find_excess, is_brief, is_small, plain_size
from chains.calls.schemas import find_errors
from tests.cpu_time import limit_cpu_time


def node(**keywords: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"l": {"type": "array", "items": keywords}}}


def wrapped(depth: int, inner: Any, key: str = "properties") -> Any:
    for _ in range(depth):
        inner = {"a": inner} if key == "value" else {"properties": {"a": inner}}
    return inner


PYDANTIC: dict[str, Any] = {
    "$defs": {
        "Color": {"enum": ["red", "green"], "title": "Color", "type": "string"},
        "Part": {
            "type": "object",
            "title": "Part",
            "properties": {"name": {"type": "string"}, "color": {"$ref": "#/$defs/Color"}},
            "required": ["name"],
        },
    },
    "type": "object",
    "properties": {
        "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
    },
    "required": ["parts"],
}
ZOD: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"mail": {"type": "string", "format": "email", "pattern": "^.+@.+$", "minLength": 3}},
    "required": ["mail"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("schema", [PYDANTIC, ZOD, {}, node(enum=["a", "b"])], ids=["Pydantic", "zod", "empty", "enum"])
def test_ordinary_schemas_are_checked_on_the_event_loop(schema: dict[str, Any]) -> None:
    assert is_small(schema, {"parts": [{"name": "x", "color": "red"}], "mail": "a@b", "text": "x" * 10_000})
    assert plain_size(schema) is not None


UNCERTAIN: dict[str, dict[str, Any]] = {
    "$anchor": {**node(**{"$ref": "#here"}), "$defs": {"a": {"$anchor": "here"}}},
    "$dynamicRef": {**node(**{"$dynamicRef": "#here"}), "$defs": {"a": {"$dynamicAnchor": "here"}}},
    "$recursiveRef": node(**{"$recursiveRef": "#"}),
    "$id": {"$id": "http://x.example/a", **node(**{"$ref": "b"}), "$defs": {"a": {"$id": "b"}}},
    "$id on the way to a target": {**node(**{"$ref": "#/$defs/a/b"}), "$defs": {"a": {"$id": "b", "b": {}}}},
    "a reference to itself": node(**{"$ref": "#"}),
    "a reference to nothing": node(**{"$ref": "#/nope"}),
    "a reference elsewhere": node(**{"$ref": "http://127.0.0.1:9/x"}),
    **{
        keyword: node(**{keyword: held})
        for keyword, held in {
            "uniqueItems": True,
            "contains": {},
            "minContains": 2,
            "patternProperties": {"a": {}},
            "propertyNames": {"$ref": "#"},
            "unevaluatedProperties": False,
            "unevaluatedItems": False,
            "dependentRequired": {"a": []},
            "dependentSchemas": {"a": {}},
            "dependencies": {"a": []},
            "an unknown keyword": 1,
        }.items()
    },
}


@pytest.mark.parametrize("schema", UNCERTAIN.values(), ids=UNCERTAIN)
def test_unusual_schemas_are_checked_outside_the_event_loop(schema: dict[str, Any]) -> None:
    assert not is_small(schema, {})
    assert plain_size(schema) is None


WORST: dict[str, Any] = {
    "alternatives": lambda n: (node(anyOf=[{"const": i} for i in range(n)]), {"l": [-1] * n}),
    "nested alternatives": lambda n: (node(anyOf=[{"anyOf": [{"type": "string"}] * 10}] * (n // 10)), {"l": [1] * n}),
    "one of many": lambda n: (node(oneOf=[{"type": "string"}] * n), {"l": [None] * n}),
    "required": lambda n: (node(required=[f"p{i}" for i in range(n)]), {"l": [{}] * n}),
    "an enum": lambda n: (node(enum=list(range(n))), {"l": [None] * n}),
    "a const": lambda n: (node(const=[[0] * n] * n), {"l": [[[0] * n] * n] * n}),
    "properties": lambda n: (node(properties={f"p{i}": {} for i in range(n)}), {"l": [{}] * n}),
    "deep errors": lambda n: (wrapped(80, node(type="string")), wrapped(80, {"l": [None] * n}, "value")),
    "nots": lambda n: (node(**json.loads('{"not":' * (n % 90) + "{}" + "}" * (n % 90))), {"l": [1] * n}),
    "long texts": lambda n: (node(allOf=[{"type": "integer"}] * n), {"l": ["x" * 5_000] * n}),
    "keywords without meaning": lambda n: (
        node(type="str", minimum=1, minLength=1, required=[], **{f"x-{i}": 1 for i in range(n)}),
        {"l": [None] * n},
    ),
    "repeated references": lambda n: (
        {**node(allOf=[{"$ref": "#/$defs/a"}] * n), "$defs": {"a": {"allOf": [{"type": "string"}] * n}}},
        {"l": [None] * n},
    ),
    "doubling references": lambda n: (
        {
            **node(**{"$ref": "#/$defs/d0"}),
            "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(n)} | {f"d{n}": {}},
        },
        {"l": [None] * n},
    ),
}


@pytest.mark.parametrize("make", WORST.values(), ids=WORST)
def test_the_largest_check_on_the_event_loop_is_fast(make: Any) -> None:
    find_errors({}, {})  # imports
    largest = max((n for n in range(1, 120) if is_small(*make(n))), default=0)
    schema, value = make(largest)
    limit_cpu_time(0.1, lambda: find_problems(schema, value, nulls_are_absent=True))
    schema, value = make(2_000 if make(1)[0] is not None else 0)
    started = time.thread_time()
    assert not is_small(schema, value) or largest == 119
    assert time.thread_time() - started < 0.1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "itself twice": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}] * 2}}},
        "circular references",
    ),
    "itself by $anchor": ({"$anchor": "x", "anyOf": [{"$ref": "#x"}, {"type": "null"}]}, "circular references"),
    "itself by $dynamicRef": ({"$dynamicAnchor": "x", "not": {"$dynamicRef": "#x"}}, "circular references"),
    "each other": (
        {
            "properties": {"x": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"if": {"$ref": "#/$defs/b"}}, "b": {"then": {"$ref": "#/$defs/a"}}},
        },
        "circular references",
    ),
    "doubling": (
        {
            "properties": {"a": {"$ref": "#/$defs/d0"}},
            "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(30)} | {"d30": {}},
        },
        "applies more than 10000 schemas",
    ),
    "too many values": ({"enum": list(range(40_001))}, "has more than 40000 values"),
    "too long": ({"description": "x" * 1_048_577}, "has more than 1048576 characters"),
    "too deep": (wrapped(60, {}), "is nested more than 100 levels deep"),
}


@pytest.mark.parametrize(("schema", "why"), REFUSED.values(), ids=REFUSED)
async def test_a_schema_that_cannot_be_checked_is_detected(schema: dict[str, Any], why: str) -> None:
    found = await find_uncheckable([PYDANTIC, schema])
    assert found is not None
    assert found[0] == 1
    assert why in found[1]


LAWFUL: dict[str, dict[str, Any]] = {
    "recursion through properties": {
        "$ref": "#/$defs/node",
        "$defs": {"node": {"type": "object", "properties": {"c": {"$ref": "#/$defs/node"}, "not": {"$ref": "#"}}}},
    },
    "recursion through items": {"type": ["array", "string"], "items": {"$ref": "#"}},
    "an enum of a thousand": {"properties": {"a": {"enum": [f"value {i}" for i in range(1_000)]}}},
    "five thousand properties": {"properties": {f"p{i}": {"type": "string", "description": "x"} for i in range(5_000)}},
    "a reference to nothing": {"properties": {"a": {"$ref": "#/components/schemas/Nope"}}},
    "a property that is called like a keyword": {
        "properties": {"$ref": {"type": "string"}, "allOf": {"type": "array"}, "not": {"$ref": "#/properties/allOf"}}
    },
    "data that looks like a reference": {"properties": {"a": {"default": {"$ref": "#"}, "const": {"allOf": [1]}}}},
    "patterns": {"patternProperties": {"(a+)+$": {"$ref": "#"}}, "propertyNames": {"pattern": "(a+)+$"}},
    "no sense": {"type": 5, "properties": 5, "allOf": {"$ref": "#"}},
}


@pytest.mark.parametrize("schema", LAWFUL.values(), ids=LAWFUL)
async def test_a_valid_schema_is_accepted(schema: dict[str, Any]) -> None:
    assert await find_uncheckable([schema] * 2) is None
    assert await check_arguments(schema, {"a": 1}) == find_problems(schema, {"a": 1})


def test_a_schema_s_size_is_found_in_bounded_time() -> None:
    schema = {"enum": [[0] * 1_000] * 100_000}
    assert "40000 values" in limit_cpu_time(0.5, lambda: find_excess(schema))


async def test_a_value_nested_too_deeply_is_reported_for_any_schema() -> None:
    value = wrapped(300, {}, "value")
    assert await check_arguments({"uniqueItems": True}, value) == ["they nest too deeply"]


def used(reference: str, target: str, uses: int = 900) -> dict[str, Any]:
    """Return a schema that leads to `target` through one more reference, which each property uses."""
    properties = {f"p{index}": {"$ref": "#/$defs/s"} for index in range(uses)}
    return {"$defs": {target: {"type": "string"}, "s": {"$ref": reference}}, "properties": properties}


@pytest.mark.parametrize(
    "schema",
    [
        used("#/$defs/" + "x" * 500_000, "x" * 500_000),
        used("#/$defs/" + "%41" * 100_000, "A" * 100_000),
        used("#/$defs/" + "~1" * 100_000, "/" * 100_000),
    ],
    ids=["long", "escaped by percents", "escaped by tildes"],
)
def test_a_long_reference_is_not_followed_on_the_event_loop(schema: dict[str, Any]) -> None:
    assert limit_cpu_time(0.05, lambda: (plain_size(schema), is_small(schema, {}), is_brief(schema))) == (
        None,
        False,
        False,
    )


@pytest.mark.parametrize("keyword", ["$defs", "default", "description", "enum"])
def test_a_schema_that_is_large_in_any_part_is_not_small(keyword: str) -> None:
    large: Any = "x" * 10**7 if keyword == "description" else {str(index): {} for index in range(30_000)}
    schema = {"type": "object", keyword: [large] if keyword == "enum" else large}
    assert not limit_cpu_time(0.05, lambda: is_small(schema, {}))
    assert not limit_cpu_time(0.05, lambda: is_brief(schema))


def test_short_schemas_without_repetition_are_brief() -> None:
    assert is_brief([ZOD, node(enum=["a", "b"])])
    assert not is_brief([PYDANTIC])
    assert not is_brief([node(enum=list(range(1_000)))])
    assert not is_brief([node(pattern="a" * 10_001)])


async def test_many_unusual_schemas_cost_no_more_than_one() -> None:
    name = "A" * 150
    parts = {f"p{index}": {"$ref": "#/$defs/" + "%41" * 150} for index in range(200)}
    schemas = [
        {"$defs": {name: {"type": "object", "properties": {"a": {"type": "string"}}}}, "properties": parts}
        for _ in range(100)
    ]
    start_time = time.thread_time()
    await find_uncheckable(schemas)
    assert time.thread_time() - start_time < 0.2
