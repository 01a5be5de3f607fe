"""Requests to the demo model keep everything that the request or its schema sets."""

from typing import Any

import pytest

from chains.demo import demo_request
from chains.prompts import DEFAULT_PROMPTS, fill


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    asked: dict[str, Any] = demo_request({"response_format": wanted})["response_format"]["json_schema"]
    assert (asked["name"], asked["strict"]) == ("x", True)
    found: dict[str, Any] = asked["schema"]
    return found


def text(name: str, **given: Any) -> int:
    schema = {"type": "object", "properties": {name: {"type": "string", **given}}}
    longest: int = bounded(schema)["properties"][name]["maxLength"]
    return longest


def test_a_request_s_values_override_the_demo_s() -> None:
    asked = demo_request({"messages": [], "logit_bias": [], "dry_multiplier": 0.0})
    assert (asked["logit_bias"], asked["dry_multiplier"]) == ([], 0.0)
    assert asked["dry_allowed_length"] > 0


def test_an_answer_ends_before_it_repeats_the_template() -> None:
    (result, answer) = demo_request({})["stop"]
    assert fill(DEFAULT_PROMPTS.result, name="f", arguments="{}", output="x").startswith(result.strip())
    assert answer.strip() == DEFAULT_PROMPTS.answer
    assert demo_request({"stop": ["x"]})["stop"] == ["x"]


@pytest.mark.parametrize("wanted", [None, {"type": "text"}])
def test_plain_replies_are_helped_to_end(wanted: Any) -> None:
    assert demo_request({"response_format": wanted})["logit_bias"]


def test_structured_replies_can_copy_from_the_prompt() -> None:
    for wanted in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"schema": {}}}):
        asked = demo_request({"response_format": wanted})
        assert "logit_bias" not in asked
        assert asked.get("dry_allowed_length", 99) > 8


@pytest.mark.parametrize("name", ["city", "title", "name", "id", "status", "to", "unit"])
def test_a_property_with_a_short_value_is_a_short_string(name: str) -> None:
    assert text(name) <= 100


@pytest.mark.parametrize("name", ["body", "text", "query", "code", "messageText", "html_content", "url"])
def test_a_property_with_a_long_value_can_be_longer(name: str) -> None:
    assert 200 <= text(name) <= 400


def test_a_description_bounds_what_a_name_does_not() -> None:
    assert text("x", description="The text of the mail") > text("x", description="A city")


@pytest.mark.parametrize(("format_", "maximum"), [("date", 10), ("uuid", 36), ("date-time", 35), ("other", 100)])
def test_a_format_sets_the_length(format_: str, maximum: int) -> None:
    assert text("x", format=format_) == maximum


@pytest.mark.parametrize(
    ("given", "maximum"), [({"maxLength": 7}, 7), ({"maxLength": 1_500}, 1_500), ({"minLength": 900}, 900)]
)
def test_a_schema_s_own_bound_is_kept(given: dict[str, Any], maximum: int) -> None:
    assert text("city", **given) == maximum


def test_the_default_bound_of_calls_counts_as_none() -> None:
    assert text("city", maxLength=1_900) == 100


@pytest.mark.parametrize("given", [{"enum": ["a", "b"]}, {"const": "a"}, {"pattern": "^a+$"}])
def test_a_string_with_fixed_values_stays_unchanged(given: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", **given}}}
    assert bounded(schema) == schema


def test_strings_in_lists_unions_and_definitions_are_bounded_too() -> None:
    schema = {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "type": {"type": ["string", "null"]},
        },
        "$defs": {"name": {"type": "string"}},
    }
    found = bounded(schema)
    assert found["properties"]["tags"]["items"]["maxLength"] == 100
    assert found["properties"]["tags"]["maxItems"] == 12
    assert found["properties"]["note"]["anyOf"][0]["maxLength"] == 300
    assert found["properties"]["type"]["maxLength"] == 100
    assert found["$defs"]["name"]["maxLength"] == 100


def test_a_schema_too_large_to_walk_is_bounded_in_part() -> None:
    properties = {f"p{number}": {"type": "string"} for number in range(6_000)}
    found = bounded({"type": "object", "properties": properties})["properties"]
    assert found.keys() == properties.keys()
    assert found["p5999"] == {"type": "string"}
