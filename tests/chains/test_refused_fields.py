"""Fields of a request that a refusal names, in the wording of many servers, and fields that it only seems to name."""

from typing import Any, Final

import orjson
import pytest

from chains.error_responses import read_error_response
from chains.quotes import RequestText
from chains.refused_fields import find_request_changes
from chains.request_changes import RequestChange, apply_changes

CALL: Final = {"id": "c", "type": "function", "function": {"name": "w", "arguments": "{}"}}
PARAMETERS: Final = {
    "$schema": "x",
    "type": "object",
    "properties": {"title": {"type": "string", "title": "T"}, "default": {"type": "string"}},
    "additionalProperties": False,
}
ASKED: Final = "Why is 'temperature cannot be set, and max_tokens is unsupported' what it says?"
BODY: Final[dict[str, Any]] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "x"},
        {"role": "tool", "tool_call_id": "c", "content": "68"},
    ],
    "tools": [{"type": "function", "function": {"name": "w", "strict": True, "parameters": PARAMETERS}}],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "temperature": 0.2,
    "top_p": 0.5,
    "max_tokens": 100,
    "stream": True,
    "stream_options": {"include_usage": True},
    "reasoning_effort": "low",
    "response_format": {"type": "json_schema"},
}
USAGE: Final = RequestChange("request", "stream_options")
PARALLEL: Final = RequestChange("request", "parallel_tool_calls")
EFFORT: Final = RequestChange("request", "reasoning_effort")
HEAT: Final = RequestChange("request", "temperature")
NUCLEUS: Final = RequestChange("request", "top_p")
LIMIT: Final = RequestChange("limit", "max_tokens")
NULL: Final = RequestChange("content", "empty")
CHOICE: Final = RequestChange("choice", "required")


def of(name: str) -> dict[str, Any]:
    return {"type": "extra_forbidden", "loc": ["body", *name.split(".")], "msg": "Extra inputs are not permitted"}


def found(error: Any, status: int | None = 400, body: dict[str, Any] = BODY) -> list[RequestChange]:
    answer = error if isinstance(error, dict) else {"error": {"message": error}}
    refusal = read_error_response(orjson.dumps(answer), status=status)
    return find_request_changes(
        body, RequestText(body), paths=refusal.paths, text=refusal.full, status=refusal.status, code=refusal.code
    )


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        ("Unrecognized request argument supplied: stream_options", [USAGE]),
        ("Unrecognized request arguments supplied: parallel_tool_calls, stream_options", [PARALLEL, USAGE]),
        ('json: unknown field "parallel_tool_calls"', [PARALLEL]),
        ("stream_options: Extra inputs are not permitted", [USAGE]),
        ("1 validation error for Request\nstream_options\n  Extra inputs are not permitted [type=x]", [USAGE]),
        ("property 'parallel_tool_calls' is unsupported, did you mean 'top_p'?", [PARALLEL]),
        ("reasoning_effort is not supported with this model", [EFFORT]),
        ("create() got an unexpected keyword argument 'parallel_tool_calls'", [PARALLEL]),
        ('Invalid JSON payload received. Unknown name "parallel_tool_calls": Cannot find field.', [PARALLEL]),
        ("does not support parameters: ['parallel_tool_calls', 'reasoning_effort'], for m", [PARALLEL, EFFORT]),
        ("Additional properties are not allowed ('stream_options' was unexpected)", [USAGE]),
        ("The `stream_options` parameter is only allowed when `stream` is enabled.", [USAGE]),
        ("not supported: please remove temperature and top_p", [HEAT, NUCLEUS]),
        ("不支持参数 stream_options", [USAGE]),
        ("不支持stream_options参数", [USAGE]),
        ("temperature 参数不支持", [HEAT]),
        ("parallel_tool_callsはサポートされていません", [PARALLEL]),
        ("max_tokens参数不支持, 请使用max_completion_tokens", [LIMIT]),
        ("request.stream_options: field not supported", [USAGE]),
        ("body -> stream_options: extra fields not permitted", [USAGE]),
        ("El parámetro stream_options no es compatible", [USAGE]),
        ("Le paramètre « temperature » n'est pas pris en charge", [HEAT]),
        ({"detail": [of("stream_options")]}, [USAGE]),
        ({"detail": [of("stream_options.include_usage"), of("parallel_tool_calls")]}, [PARALLEL, USAGE]),
        ({"message": {"detail": [of("stream_options.include_usage")]}, "code": None}, [USAGE]),
        ({"message": str([of("parallel_tool_calls")]), "code": 400}, [PARALLEL]),
        ({"error": {"message": "no", "param": "temperature"}}, [HEAT]),
        ({"error": {"message": "invalid", "details": [{"field": "temperature"}]}}, [HEAT]),
        ({"detail": "stream_options is not supported"}, [USAGE]),
        ({"errors": [{"message": "Unknown field stream_options"}]}, [USAGE]),
        ({"errors": {"stream_options": ["Not known."]}}, [USAGE]),
        ({"stream_options": ["Not known."], "parallel_tool_calls": ["Not known."]}, [PARALLEL, USAGE]),
        ({"error_code": 3, "error_msg": "unknown parameter stream_options"}, [USAGE]),
        ({"error": "Bad Request", "message": ["property stream_options should not exist"]}, [USAGE]),
        ({"error": {"message": "Bad", "details": [{"description": 'Unknown name "stream_options"'}]}}, [USAGE]),
        ({"error": {"message": "Provider returned error", "code": 400, "metadata": {
            "raw": orjson.dumps({"detail": [of("stream_options")]}).decode()}}}, [USAGE]),
        ({"error": {"message": "Provider returned error", "code": 400, "metadata": {
            "raw": '{"object":"error","message":"Unknown field: \'stream_options\'"}'}}}, [USAGE]),
        ("`temperature` and `top_p` cannot both be specified for this model.", [RequestChange("pair", "top_p")]),
        ("'temperature' does not support 0.2. Only the default (1) value is supported.",
         [RequestChange("request", "temperature", "0.2")]),
        ("Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.", [LIMIT]),
        ("You must set max_completion_tokens instead of max_tokens", [LIMIT]),
        ("tool_choice 'required' is not supported", [CHOICE]),
        ("m does not support this tool_choice", [CHOICE]),
        ("stream is not supported for this model", [RequestChange("request", "stream")]),
        ("'messages.2' : property 'reasoning_content' is unsupported", [RequestChange("message", "reasoning_content")]),
        ("'messages.2.content' : value must be a string", [NULL]),
        ("Invalid value for 'content': expected a string, got null.", [NULL]),
        ("messages[2]: invalid type: null, expected a string at line 1", [NULL]),
        ('can only concatenate str (not "NoneType") to str', [NULL]),
        ({"error": {"message": "Expected string", "param": "messages.[2].content"}}, [NULL]),
        ("Unknown name \"additionalProperties\" at 'tools[0].function_declarations[0].parameters': Cannot find field",
         [RequestChange("schema", "additionalProperties")]),
        ('keyword "$schema" is not supported', [RequestChange("schema", "$schema")]),
        ("'strict' is not a recognized parameter", [RequestChange("function", "strict")]),
    ],
)  # fmt: skip
def test_refused_fields_are_found_in_the_errors_of_many_servers(error: Any, changes: list[RequestChange]) -> None:
    assert sorted(found(error), key=str) == sorted(changes, key=str)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (f"Your prompt was flagged: {ASKED}", 400),
        ("flagged: 'temperature cannot be set, and max_tokens is", 400),
        ("top_k is not supported", 400),
        ("seed is not supported", 400),
        ("Unknown model foo", 400),
        ("Conversation roles must alternate user/assistant", 400),
        ("max_tokens is too large: 100. At most 50 are supported", 400),
        ("max_tokens must be less than or equal to 50", 422),
        ("response_format type json_schema is not supported", 400),
        ("tools is not supported", 400),
        ("stream_options is not supported for this key", 401),
        ("stream_options is not supported for this key", 403),
        ("too many requests with stream_options", 429),
        ("crashed in stream_options", 500),
        ("the temperature of the server room is high", 400),
        ("The `reasoning_content` in the thinking mode must be passed back to the API.", 400),
        ("'temperature' is required", 422),
        ("thinking is enabled but reasoning_content is missing in assistant tool call message at index 2", 400),
        ("Missing required field: `reasoning_content`", 400),
        (
            {"detail": [{**of("messages.2.assistant.reasoning_content"), "type": "missing", "msg": "Field required"}]},
            422,
        ),
    ],
)
def test_fields_that_only_seem_to_be_named_stay(error: Any, status: int) -> None:
    assert found(error, status) == []


def test_a_failure_counts_only_if_it_names_unknown_fields() -> None:
    assert found("create() got an unexpected keyword argument 'stream_options'", 500) == [USAGE]
    assert found("stream_options broke it", 500) == []
    assert found("stream_options is not implemented", 501) == [USAGE]
    assert found("stream_options broke it", None) == [USAGE]


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (USAGE, {"stream_options"}),
        (RequestChange("request", "temperature", "0.2"), {"temperature"}),
        (RequestChange("request", "temperature", "0.3"), set()),
        (RequestChange("pair", "top_p"), {"top_p"}),
        (LIMIT, {"max_tokens"}),
        (RequestChange("request", "stream"), {"stream", "stream_options"}),
        (RequestChange("choice", "none"), set()),
    ],
)
def test_a_change_affects_only_its_own_field(change: RequestChange, gone: set[str]) -> None:
    changed = apply_changes(BODY, [change])
    assert BODY.keys() - changed.keys() == gone
    assert changed["messages"] == BODY["messages"]


def test_a_limit_gets_its_other_name_and_keeps_its_value() -> None:
    assert apply_changes(BODY, [LIMIT])["max_completion_tokens"] == 100


def test_a_tool_choice_is_weakened_stepwise_but_none_stays() -> None:
    auto = apply_changes(BODY, [CHOICE])
    assert auto["tool_choice"] == "auto"
    assert "tool_choice" not in apply_changes(auto, [RequestChange("choice", "auto")])
    none = apply_changes({**BODY, "tool_choice": "none"}, [RequestChange("choice", "none")])
    assert not none.keys() & {"tool_choice", "tools"}


def test_a_keyword_is_removed_but_properties_of_its_name_stay() -> None:
    changed = apply_changes(BODY, [RequestChange("schema", "title"), RequestChange("schema", "default")])
    properties = changed["tools"][0]["function"]["parameters"]["properties"]
    assert properties == {"title": {"type": "string"}, "default": {"type": "string"}}


def test_empty_content_next_to_calls_is_first_a_text_then_absent() -> None:
    once = apply_changes(BODY, [NULL])
    assert [message.get("content") for message in once["messages"]] == ["s", ASKED, "", "68"]
    (change,) = found("content must not be empty", body=once)
    assert "content" not in apply_changes(once, [change])["messages"][2]


def test_a_field_of_a_message_is_removed_from_all_messages() -> None:
    changed = apply_changes(BODY, [RequestChange("message", "reasoning_content")])
    assert all("reasoning_content" not in message for message in changed["messages"])
    assert changed["messages"][2]["tool_calls"] == [CALL]
