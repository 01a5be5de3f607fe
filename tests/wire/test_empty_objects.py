"""PHP's empty arrays in data that no model describes."""

from collections.abc import Callable
from typing import Any

import pytest

from wire.assistants import AssistantCreate, new_assistant
from wire.empty_objects import fill_action, fill_forwarded, fill_langserve, fill_schema
from wire.validation import parse

DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "t", "version": "1", "contact": []},
    "servers": [{"url": "/", "variables": []}],
    "security": [[], {"key": []}],
    "tags": [],
    "paths": {
        "/a": {
            "parameters": [],
            "get": {
                "tags": [],
                "parameters": [{"name": "q", "in": "query", "schema": []}],
                "responses": {"200": {"description": "", "headers": [], "content": {"application/json": []}}},
            },
            "post": {"requestBody": {"content": {"application/json": {"schema": {"properties": []}, "example": []}}}},
        },
        "/b": [],
    },
    "components": {"schemas": {"Tags": {"properties": {"tags": [], "required": []}, "required": []}}, "parameters": []},
    "x-own": [],
}
FILLED = {
    "openapi": "3.1.0",
    "info": {"title": "t", "version": "1", "contact": {}},
    "servers": [{"url": "/", "variables": {}}],
    "security": [{}, {"key": []}],
    "tags": [],
    "paths": {
        "/a": {
            "parameters": [],
            "get": {
                "tags": [],
                "parameters": [{"name": "q", "in": "query", "schema": {}}],
                "responses": {"200": {"description": "", "headers": {}, "content": {"application/json": {}}}},
            },
            "post": {"requestBody": {"content": {"application/json": {"schema": {"properties": {}}, "example": []}}}},
        },
        "/b": {},
    },
    "components": {"schemas": {"Tags": {"properties": {"tags": {}, "required": {}}, "required": []}}, "parameters": {}},
    "x-own": [],
}

SCHEMAS: list[Any] = [
    ([], {}),
    ({"properties": []}, {"properties": {}}),
    ({"type": ["object", "null"], "default": []}, {"type": ["object", "null"], "default": {}}),
    ({"type": ["array", "object"], "default": []}, {"type": ["array", "object"], "default": []}),
    ({"dependencies": [], "dependentSchemas": []}, {"dependencies": {}, "dependentSchemas": {}}),
    ({"properties": {"a": [], "default": []}}, {"properties": {"a": {}, "default": {}}}),
    ({"properties": {"a": {"items": []}}}, {"properties": {"a": {"items": {}}}}),
    ({"additionalProperties": [], "not": []}, {"additionalProperties": {}, "not": {}}),
    ({"anyOf": [[], {"properties": []}]}, {"anyOf": [{}, {"properties": {}}]}),
    ({"$defs": {"A": {"patternProperties": []}}}, {"$defs": {"A": {"patternProperties": {}}}}),
    ({"type": "object", "default": []}, {"type": "object", "default": {}}),
]
KEPT: list[Any] = [
    {"required": [], "enum": [], "allOf": [], "examples": [[]], "type": []},
    {"type": "array", "default": [], "const": [], "enum": [[]]},
    {"items": [], "additionalItems": False},
    {"items": [{"type": "string"}]},
    {"x-own": [], "example": {"properties": []}},
    {"dependentRequired": {"a": []}, "dependencies": {"a": []}},
    True,
    "text",
]


@pytest.mark.parametrize(("given", "filled"), [*SCHEMAS, *((kept, kept) for kept in KEPT)], ids=str)
def test_empty_arrays_in_schemas_become_objects(given: Any, filled: Any) -> None:
    assert fill_schema(given) == filled


@pytest.mark.parametrize(
    ("fill", "given", "filled"),
    [
        (
            fill_action,
            {"headers": [], "auth": [], "openapi_spec": DOCUMENT},
            {"headers": {}, "auth": {}, "openapi_spec": FILLED},
        ),
        (fill_action, {"openapi_spec": "openapi: 3.1.0"}, {"openapi_spec": "openapi: 3.1.0"}),
        (fill_forwarded, [], {}),
        (fill_forwarded, ["x"], ["x"]),
        (fill_forwarded, {"messages": [], "tools": [], "stop": []}, {"messages": [], "tools": [], "stop": []}),
        (
            fill_forwarded,
            {"tools": [{"function": {"parameters": {"properties": []}}}], "metadata": [], "logit_bias": []},
            {"tools": [{"function": {"parameters": {"properties": {}}}}], "metadata": {}, "logit_bias": {}},
        ),
        (
            fill_forwarded,
            {"functions": [{"parameters": []}], "response_format": {"json_schema": {"schema": []}}},
            {"functions": [{"parameters": {}}], "response_format": {"json_schema": {"schema": {}}}},
        ),
        (fill_langserve, [], {}),
        (fill_langserve, {"input": [], "config": [], "kwargs": []}, {"input": {}, "config": {}, "kwargs": {}}),
        (
            fill_langserve,
            {"inputs": [[], {"tool_outputs": []}], "config": [[], {"metadata": [], "tags": []}]},
            {"inputs": [{}, {"tool_outputs": []}], "config": [{}, {"metadata": {}, "tags": []}]},
        ),
        (
            fill_langserve,
            {"inputs": [], "config": {"configurable": []}},
            {"inputs": [], "config": {"configurable": {}}},
        ),
    ],
    ids=lambda value: None if callable(value) else str(value)[:50],
)
def test_empty_arrays_in_a_body_become_objects(fill: Callable[[Any], Any], given: Any, filled: Any) -> None:
    assert fill(given) == filled


def test_an_assistant_is_stored_with_empty_objects() -> None:
    tools = [
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": []}}},
        {"type": "action", "data": {"openapi_spec": DOCUMENT, "headers": []}},
    ]
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": []}}}
    made = new_assistant(
        parse(AssistantCreate, {"model": "m", "tools": tools, "response_format": asked, "metadata": []}), id="a", now=1
    )
    assert made["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert made["tools"][1]["data"] == {"openapi_spec": FILLED, "headers": {}}
    assert made["response_format"]["json_schema"]["schema"] == {"properties": {}}
    assert made["metadata"] == {}
