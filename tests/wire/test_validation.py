"""Every limit of the reference, and its error message."""

from typing import Any

import pytest

from wire.assistants import AssistantCreate
from wire.errors import InvalidRequest
from wire.messages import MessageCreate
from wire.runs import RunCreate, SubmitToolOutputs
from wire.threads import ThreadCreate
from wire.validation import Request, check_id, parse

MISSING, UNKNOWN, VALUE, TYPE = (
    "missing_required_parameter",
    "unknown_parameter",
    "invalid_value",
    "invalid_type",
)

NULLABLE = (
    "name",
    "description",
    "instructions",
    "metadata",
    "temperature",
    "top_p",
    "response_format",
    "reasoning_effort",
    "tool_resources",
)


def refusal(model: type[Request], data: Any) -> tuple[str, str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        parse(model, data)
    assert caught.value.status == 400
    return caught.value.message, caught.value.param, caught.value.code


def function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **fields}}


@pytest.mark.parametrize(
    ("model", "data", "message", "param", "code"),
    [
        (RunCreate, {}, "Missing required parameter: 'assistant_id'.", "assistant_id", MISSING),
        (
            AssistantCreate,
            {"model": "m", "tool_resources": {"file_search": {"file_ids": []}}},
            "Unknown parameter: 'tool_resources.file_search.file_ids'.",
            "tool_resources.file_search.file_ids",
            UNKNOWN,
        ),
        (
            AssistantCreate,
            {"model": "m", "tools": [{"type": "browser"}]},
            "Invalid value: 'browser'. Supported values are: 'code_interpreter', 'function', and 'file_search'.",
            "tools[0].type",
            VALUE,
        ),
        (
            MessageCreate,
            {"role": "user", "content": "x" * 256_001},
            "Invalid 'content': string too long. Expected a string with maximum length 256000, "
            "but got a string with length 256001 instead.",
            "content",
            "string_above_max_length",
        ),
        (
            MessageCreate,
            {"role": "system", "content": ""},
            "Invalid value: 'system'. Supported values are: 'user' and 'assistant'.",
            "role",
            VALUE,
        ),
        (
            ThreadCreate,
            [1],
            "Invalid type for the request body: expected an object, but got an array instead.",
            None,
            TYPE,
        ),
    ],
    ids=["missing", "unknown", "enum", "too long", "role", "body"],
)
def test_messages_are_openai_s(model: type[Request], data: Any, message: str, param: str | None, code: str) -> None:
    assert refusal(model, data) == (message, param, code)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": "x" * 257}, "model", "string_above_max_length"),
        ({"name": "x" * 257}, "name", "string_above_max_length"),
        ({"description": "x" * 513}, "description", "string_above_max_length"),
        ({"instructions": "x" * 256_001}, "instructions", "string_above_max_length"),
        ({"tools": [function()] * 129}, "tools", "array_above_max_length"),
        ({"tools": "function"}, "tools", TYPE),
        ({"tools": [1]}, "tools[0]", TYPE),
        ({"tools": [{}]}, "tools[0].type", MISSING),
        ({"tools": [{"type": {}}]}, "tools[0].type", TYPE),
        ({"tools": [{"type": "function"}]}, "tools[0].function", MISSING),
        ({"tools": [function(name="a b")]}, "tools[0].function.name", VALUE),
        ({"tools": [function(name="a" * 65)]}, "tools[0].function.name", "string_above_max_length"),
        ({"tools": [function(parameters=[1])]}, "tools[0].function.parameters", TYPE),
        ({"tools": [function(color=1)]}, "tools[0].function.color", UNKNOWN),
        (
            {"tools": [{"type": "file_search", "file_search": {"max_num_results": 51}}]},
            "tools[0].file_search.max_num_results",
            "integer_above_max_value",
        ),
        (
            {"tools": [{"type": "file_search", "file_search": {"ranking_options": {}}}]},
            "tools[0].file_search.ranking_options.score_threshold",
            MISSING,
        ),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties"),
        ({"metadata": {"k" * 65: ""}}, "metadata", "string_above_max_length"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
        ({"metadata": {"k": 1}}, "metadata.k", TYPE),
        ({"metadata": "k"}, "metadata", TYPE),
        ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
        ({"temperature": -0.1}, "temperature", "decimal_below_min_value"),
        ({"temperature": "1"}, "temperature", TYPE),
        ({"temperature": True}, "temperature", TYPE),
        ({"top_p": 1.1}, "top_p", "decimal_above_max_value"),
        ({"response_format": "json"}, "response_format", VALUE),
        ({"response_format": {"type": "xml"}}, "response_format.type", VALUE),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", MISSING),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name", MISSING),
        ({"reasoning_effort": "extreme"}, "reasoning_effort", VALUE),
        ({"file_ids": ["file-1"] * 21}, "file_ids", "array_above_max_length"),
        (
            {"tool_resources": {"code_interpreter": {"file_ids": ["f"] * 21}}},
            "tool_resources.code_interpreter.file_ids",
            "array_above_max_length",
        ),
        (
            {"tool_resources": {"file_search": {"vector_store_ids": ["a", "b"]}}},
            "tool_resources.file_search.vector_store_ids",
            "array_above_max_length",
        ),
        ({"model": None}, "model", TYPE),
        ({"surprise": 1}, "surprise", UNKNOWN),
    ],
    ids=lambda value: str(value)[:40],
)
def test_assistant_limits_are_enforced_with_the_parameter_named(fields: dict[str, Any], param: str, code: str) -> None:
    assert refusal(AssistantCreate, {"model": "m", **fields})[1:] == (param, code)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "x" * 256, "description": "x" * 512, "instructions": "x" * 256_000},
        {"tools": [function()] * 128},
        {"metadata": {f"{n:064}": "v" * 512 for n in range(16)}},
        {"temperature": 2, "top_p": 0},
        dict.fromkeys(NULLABLE),
        {"model": ""},
    ],
    ids=["texts", "tools", "metadata", "numbers", "nulls", "no model"],
)
def test_values_at_the_limits_are_accepted(fields: dict[str, Any]) -> None:
    parse(AssistantCreate, {"model": "m", **fields})


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": [function()] * 21}, "tools", "array_above_max_length"),
        ({"tool_choice": "any"}, "tool_choice", VALUE),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function", MISSING),
        ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name", MISSING),
        ({"truncation_strategy": {"type": "none"}}, "truncation_strategy.type", VALUE),
        (
            {"truncation_strategy": {"type": "last_messages", "last_messages": 0}},
            "truncation_strategy.last_messages",
            "integer_below_min_value",
        ),
        ({"max_prompt_tokens": 0}, "max_prompt_tokens", "integer_below_min_value"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens", TYPE),
        ({"stream": "yes"}, "stream", TYPE),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls", TYPE),
        (
            {"additional_messages": [{"role": "user", "content": []}]},
            "additional_messages[0].content",
            "empty_array",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_run_limits_are_enforced_with_the_parameter_named(fields: dict[str, Any], param: str, code: str) -> None:
    assert refusal(RunCreate, {"assistant_id": "asst_1", **fields})[1:] == (param, code)


@pytest.mark.parametrize(
    ("content", "param", "code"),
    [
        (1, "content", TYPE),
        (None, "content", TYPE),
        ([], "content", "empty_array"),
        (["text"], "content[0]", TYPE),
        ([{"type": "text"}], "content[0].text", MISSING),
        ([{"type": "text", "text": {"value": "x"}}], "content[0].text", TYPE),
        ([{"type": "audio"}], "content[0].type", VALUE),
        ([{"type": "image_url", "image_url": {"url": "u", "detail": "huge"}}], "content[0].image_url.detail", VALUE),
        ([{"type": "image_file", "image_file": {}}], "content[0].image_file.file_id", MISSING),
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_content_is_reported_with_its_position(content: Any, param: str, code: str) -> None:
    assert refusal(MessageCreate, {"role": "user", "content": content})[1:] == (param, code)


def test_an_output_needs_the_id_of_its_call() -> None:
    assert refusal(SubmitToolOutputs, {"tool_outputs": [{}]})[1:] == ("tool_outputs[0].tool_call_id", MISSING)
    assert refusal(SubmitToolOutputs, {})[1:] == ("tool_outputs", MISSING)


@pytest.mark.parametrize("wrong", ["undefined", "", "run_1", "x" * 65])
def test_an_id_of_another_kind_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_id("thread_id", wrong, "thread")
    assert caught.value.param == "thread_id"


def test_an_unknown_parameter_is_reported_before_a_missing_one() -> None:
    assert refusal(RunCreate, {"assistantId": "asst_1"})[1] == "assistantId"


def test_a_long_value_is_quoted_only_in_part() -> None:
    message, param, _ = refusal(AssistantCreate, {"model": "m", "x" * 10_000: 1})
    assert len(message) < 300
    assert len(param or "") < 300
