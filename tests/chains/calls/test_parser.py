"""Calls in texts: known and observed forms, and properties of every text."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.calls.call_detector import CallDetector
from chains.calls.parser import Written, find_calls, is_quick, read_object
from tests.cpu_time import limit_cpu_time, slowness

NAMES = ("getWeather", "getTime")
ROME = Written("getWeather", '{"place":"Rome"}')
CALL = '{"name": "getWeather", "arguments": {"place": "Rome"}}'

SEEN: dict[str, str] = {
    "as asked": CALL,
    "prose around": f"Sure! Here is the call: {CALL} I hope this helps.",
    "a brace in the prose": f"Use {{this}}: {CALL}",
    "a fence": f"```json\n{CALL}\n```\nDone.",
    "a fence, truncated": '```json\n{"name": "getWeather", "arguments": {"place": "Rome"}\n```\nThis calls it.',
    "tags": f"<tool_call>\n{CALL}\n</tool_call>",
    "tags, truncated": '<tool_call>{"name": "getWeather", "arguments": {"place": "Rome"}</tool_call>',
    "truncated": '{"name": "getWeather", "arguments": {"place": "Rome"',
    "truncated in a string": '{"name": "getWeather", "arguments": {"place": "Rome',
    "single quotes": "{'name': 'getWeather', 'arguments': {'place': 'Rome'}}",
    "trailing commas": '{"name": "getWeather", "arguments": {"place": "Rome",},}',
    "comments": '{"name": "getWeather", // the weather\n "arguments": {"place": "Rome"}}',
    "bare keys": '{name: "getWeather", arguments: {place: "Rome"}}',
    "parameters": '{"name": "getWeather", "parameters": {"place": "Rome"}}',
    "function and args": '{"function": "getWeather", "args": {"place": "Rome"}}',
    "arguments as text": '{"name": "getWeather", "arguments": "{\\"place\\":\\"Rome\\"}"}',
    "OpenAI's own form": json.dumps(
        {"tool_calls": [{"type": "function", "function": {"name": "getWeather", "arguments": ROME.arguments}}]}
    ),
    "the name as the key": '{"getWeather": {"place": "Rome"}}',
    "as in Python": 'getWeather({"place": "Rome"})',
    "a name space": '{"name": "functions.getWeather", "arguments": {"place": "Rome"}}',
    "another case": '{"name": "GetWeather", "arguments": {"place": "Rome"}}',
    "a list": f"[{CALL}]",
}  # fmt: skip


@pytest.mark.parametrize("text", SEEN.values(), ids=SEEN)
def test_a_call_is_found_in_every_form(text: str) -> None:
    assert find_calls(text, NAMES) == [ROME]


def test_no_arguments_are_an_empty_object() -> None:
    assert find_calls('{"name": "getTime"}', NAMES) == [Written("getTime", "{}")]


def test_a_missing_name_is_the_only_function() -> None:
    assert find_calls('{"place":"Rome"}', NAMES) == []
    assert find_calls('So: {"place":"Rome"}', NAMES, only="getWeather") == [ROME]


@pytest.mark.parametrize(
    "text",
    [f"[{CALL}, {CALL}]", f"{CALL}\n{CALL}", f'{{"calls": [{CALL}, {CALL}]}}', f"<tool_call>{CALL}</tool_call>" * 2],
    ids=["list", "lines", "calls", "tags"],
)
def test_several_calls_are_found(text: str) -> None:
    assert find_calls(text, NAMES) == [ROME, ROME]


@pytest.mark.parametrize(
    "text",
    ['{"name": "Bob", "age": 3}', "I like {braces} and [lists]", "def f(): return {1: 2}", "3 < 4", '[{"a": 1}]', ""],
)
def test_json_that_calls_nothing_is_text(text: str) -> None:
    assert find_calls(text, NAMES) == []


def test_a_called_name_that_is_not_offered_is_returned() -> None:
    assert find_calls('{"name": "fly", "arguments": {"to": "Rome"}}', NAMES) == [Written("fly", '{"to":"Rome"}')]


# --- for every text ---------------------------------------------------------------------------------------------------

texts = st.text(max_size=200)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(st.text(min_size=1, max_size=8), values, max_size=4)
prose = st.text(st.characters(exclude_characters="{}[]<>`\"'("), max_size=60)
noisy = st.lists(
    st.sampled_from([*"{}[]<>`\"',:\\ \n", "name", "getWeather", "arguments", "```json\n", "```", "a"])
).map("".join)


@given(prose, st.sampled_from(NAMES), arguments, prose, st.sampled_from([None, 2]))
def test_every_call_is_found_in_every_prose(before: str, name: str, given: Any, after: str, indent: Any) -> None:
    text = before + json.dumps({"name": name, "arguments": given}, indent=indent) + after
    (found,) = find_calls(text, NAMES)
    assert found.name == name
    assert json.loads(found.arguments) == given


@given(arguments, st.data())
def test_a_call_cut_anywhere_breaks_and_invents_nothing(given: Any, data: Any) -> None:
    text = json.dumps({"name": "getWeather", "arguments": given})
    for found in find_calls(text[: data.draw(st.integers(0, len(text)))], NAMES):
        assert "getWeather".startswith(found.name)
        assert isinstance(found.arguments, str)


@given(texts | noisy)
def test_no_text_breaks_the_parser(text: str) -> None:
    for only in (None, "getWeather"):
        for found in find_calls(text, NAMES, only=only):
            assert isinstance(found.arguments, str)
    assert isinstance(read_object(text), dict | None)


@pytest.mark.parametrize("text", ["{" * 50_000, "[" * 50_000, '{"a":' * 20_000, "`" * 50_000, "{'" * 20_000])
def test_no_nesting_breaks_the_parser(text: str) -> None:
    def hold() -> str:
        assert find_calls(text, NAMES) == []
        detector = CallDetector(NAMES)
        for start in range(0, len(text), 5_000):
            detector.feed(text[start : start + 5_000])
        return detector.text

    assert limit_cpu_time(2, hold) == text


@settings(max_examples=200)
@given(texts | noisy | st.sampled_from([*SEEN.values()]), st.lists(st.integers(1, 7), min_size=1))
def test_a_streamed_text_is_complete_whatever_its_pieces(text: str, sizes: list[int]) -> None:
    detector, gone, index, turn = CallDetector(NAMES), "", 0, 0
    while index < len(text):
        size = sizes[turn % len(sizes)]
        gone += detector.feed(text[index : index + size])
        index, turn = index + size, turn + 1
    assert gone + detector.held == detector.text == text
    if text in SEEN.values():
        assert find_calls(detector.held, NAMES) == [ROME]


@given(prose)
def test_prose_is_released_except_for_a_possible_call(text: str) -> None:
    detector = CallDetector(NAMES)
    detector.feed(text)
    assert len(detector.held.split()) <= 1
    assert all(name.startswith(detector.held.strip()) for name in NAMES[:1]) or detector.held.strip() in "getTime"


@pytest.mark.parametrize("one", ['{"name":"f","arguments":{}}', '{"name":"x","arguments":{}}', '{"x":1}'])
def test_a_text_of_many_objects_is_searched_quickly(one: str) -> None:
    text = "[" + ",".join([one] * (190_000 // (len(one) + 1))) + "]"
    offered = [f"Function{index}" for index in range(128)] + ["f"]
    found = limit_cpu_time(0.25, lambda: find_calls(text, offered))
    assert len(found) in (0, 128)


@pytest.mark.parametrize(
    "text",
    ["[" + ",".join(['{"name":"zz"}'] * 13_900) + "]", "{" + ",".join(f'"k{n}":{{}}' for n in range(17_500)) + "}"],
    ids=["objects", "keys"],
)
def test_json_with_many_names_is_searched_in_a_child(text: str) -> None:
    assert not is_quick(text)
    started = time.process_time()
    assert find_calls(text, [f"function_{number}" for number in range(128)]) == []
    taken = time.process_time() - started
    assert taken < 0.08 * slowness()  # 0.1 to 0.5 s if each name were compared with all functions


def test_long_json_with_few_names_is_parsed_on_the_event_loop() -> None:
    for value in ("x" * 190_000, [1] * 90_000):
        text = json.dumps({"name": "f", "arguments": {"a": value}}, separators=(",", ":"))
        assert is_quick(text)
        assert [call.name for call in find_calls(text, ["f"])] == ["f"]


def test_an_ambiguous_lower_case_name_is_not_guessed() -> None:
    assert [call.name for call in find_calls('{"name": "GETX", "arguments": {}}', ["getX", "Other"])] == ["getX"]
    assert [call.name for call in find_calls('{"name": "GETX", "arguments": {}}', ["getX", "getx"])] == ["GETX"]
