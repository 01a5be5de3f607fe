"""Requests to the built-in engine: those of SDKs pass, and harmful parameters are refused by name."""

import asyncio
from typing import Any

import pytest

from chains.engine_prompts import require_fitting, require_text
from chains.engine_requests import fit_request, single_requests
from chains.forwarding import CHAT, COMPLETIONS
from wire.errors import InvalidRequest

ASK = [{"role": "user", "content": "Say hello."}]


def fit(**fields: Any) -> dict[str, Any]:
    return fitted({"model": "m", "messages": ASK, **fields}, CHAT)


def fitted(body: dict[str, Any], path: str, **options: Any) -> dict[str, Any]:
    return asyncio.run(fit_request(body, path, context=1_024, **options))


def schema(of: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": of}}


def function(parameters: Any, name: str = "f") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.parametrize(
    "name",
    [
        "user",
        "metadata",
        "store",
        "service_tier",
        "prediction",
        "audio",
        "verbosity",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "web_search_options",
    ],
)
def test_openai_s_unsupported_parameters_are_accepted_and_left_out(name: str) -> None:
    assert fit(**{name: {"any": "thing"}}) == {"model": "m", "messages": ASK}


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"temperature": None, "grammar": None}, {}),
        ({"max_tokens": 10**15}, {"max_tokens": 1_024}),
        ({"n_predict": 10**15, "max_completion_tokens": 5.0}, {"n_predict": 1_024, "max_completion_tokens": 5}),
        ({"max_tokens": -1}, {"max_tokens": -1}),
        ({"seed": 2**40 + 7}, {"seed": 7}),
        ({"seed": -1}, {"seed": 0xFFFF_FFFF}),
        ({"stop": "end"}, {"stop": ["end"]}),
        ({"stop": ["a", ""]}, {"stop": ["a"]}),
        ({"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
         {"stream": True, "stream_options": {"include_usage": True}}),
        ({"logit_bias": {"50256": -100}}, {"logit_bias": {"50256": -100}}),
        ({"logprobs": True, "top_logprobs": 20}, {"logprobs": True, "top_logprobs": 20}),
        ({"parallel_tool_calls": False, "reasoning_effort": "low"},
         {"parallel_tool_calls": False, "reasoning_effort": "low"}),
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"response_format": {"type": "text"}}, {"response_format": {"type": "text"}}),
        ({"modalities": ["text"]}, {"modalities": ["text"]}),
    ],
    ids=lambda given: " ".join(given) or "nothing",
)  # fmt: skip
def test_known_parameters_are_sent_within_their_bounds(fields: dict[str, Any], sent: dict[str, Any]) -> None:
    assert fit(**fields) == {"model": "m", "messages": ASK, **sent}


@pytest.mark.parametrize(
    "name",
    [
        "grammar", "grammar_lazy", "grammar_triggers", "json_schema", "id_slot", "lora", "samplers", "n_keep",
        "n_discard", "n_indent", "min_keep", "dry_sequence_breakers", "chat_template", "t_max_predict_ms",
        "return_progress", "response_fields", "post_sampling_probs", "speculative.n_max", "functions", "zzz",
    ],
)  # fmt: skip
def test_other_parameters_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"Unknown parameter: '{name}'") as caught:
        fit(**{name: 1})
    assert (caught.value.param, caught.value.code) == (name, "unknown_parameter")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "x"), ("temperature", 1e308), ("temperature", -1), ("temperature", True),
        ("temperature", float("inf")), ("top_p", 2), ("top_k", 10**9), ("top_k", 1.5), ("presence_penalty", 3),
        ("n", 0), ("n", 1_000), ("n_probs", 10**9), ("top_logprobs", 21), ("max_tokens", -2), ("max_tokens", "9"),
        ("max_tokens", 1.5), ("seed", "x"), ("stop", ["a"] * 17), ("stop", ["a" * 501]), ("stop", [5]), ("stop", 5),
        ("logit_bias", {str(token): 1 for token in range(301)}), ("logit_bias", {"5": 101}),
        ("logit_bias", {"5": None}), ("logit_bias", {"x" * 65: 1}),
        ("logit_bias", [[1, 2, 3]]), ("logit_bias", [[-1, 1]]), ("logit_bias", 5),
        ("mirostat", 99), ("dry_multiplier", 1e30), ("repeat_penalty", 0), ("stream", "yes"), ("stream_options", []),
        ("stream_options", {"include_usage": 1}), ("tool_choice", "evil"), ("tool_choice", 5), ("tools", {}),
        ("parallel_tool_calls", 1), ("reasoning_effort", "x" * 201), ("reasoning_format", {}),
        ("reasoning_format", "evil"), ("cache_prompt", 1),
        ("modalities", ["audio"]), ("chat_template_kwargs", {"a": [1]}), ("chat_template_kwargs", {"a": 10**9}),
        ("chat_template_kwargs", {str(index): 1 for index in range(17)}), ("response_format", "json"),
        ("response_format", {"type": "xml"}), ("response_format", {"type": "json_schema"}), ("model", 5),
    ],
    ids=lambda given: repr(given)[:30],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"Invalid '{name}") as caught:
        fit(**{name: value})
    assert str(caught.value.param).startswith(name)


@pytest.mark.parametrize(
    "messages",
    [
        [], {}, "hi", ASK * 5_001, [None], ["hi"], [{}], [{"role": "evil", "content": "x"}],
        [{"role": ["user"], "content": "x"}],
        [{"role": "user"}], [{"role": "user", "content": None}], [{"role": "user", "content": 5}],
        [{"role": "user", "content": {"a": 1}}], [{"role": "user", "content": [5]}],
        [{"role": "user", "content": [{"type": "evil"}]}], [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": [{"type": "text", "text": {}}]}], [{"role": "assistant"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
        [{"role": "user", "content": "x", "name": 5}], [{"role": "tool", "content": "x", "tool_call_id": {}}],
        [{"role": "assistant", "tool_calls": 5}], [{"role": "assistant", "tool_calls": [{}]}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": 5}}]}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}] * 257}],
    ],
    ids=lambda given: repr(given)[:50],
)  # fmt: skip
def test_odd_messages_are_refused_with_their_path(messages: Any) -> None:
    with pytest.raises(InvalidRequest, match="Invalid 'messages") as caught:
        fit(messages=messages)
    assert str(caught.value.param).startswith("messages")


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_parts_other_than_text_are_refused(kind: str) -> None:
    part = {"type": kind, kind: {"url": "file:///etc/passwd"}}
    with pytest.raises(InvalidRequest, match=f"does not support `{kind}`"):
        require_text(fit(messages=[{"role": "user", "content": [part]}]))


LONG = "x" * 33_000
PARTS = [{"type": "text", "text": LONG[:11_000]}] * 3
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": LONG}}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": LONG}]},
        {"messages": [{"role": "user", "content": LONG[:600]}] * 60},
        {"messages": [{"role": "user", "content": PARTS}]},
        {"messages": [{"role": "assistant", "tool_calls": [CALL]}]},
        {"prompt": LONG},
        {"prompt": [LONG[:17_000]] * 2},
        {"prompt": [[5] * 1_000, LONG]},
        {"tools": [{"type": "function", "function": {"name": "f", "description": LONG}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {LONG: {}}}}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"enum": [10**10] * 3_000}}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"enum": [0.123456789] * 3_000}}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"enum": [None] * 10_000}}}]},
    ],
    ids=[
        "text",
        "many",
        "parts",
        "arguments",
        "prompt",
        "prompts",
        "a prompt beside tokens",
        "a description",
        "a property's name",
        "integers",
        "numbers",
        "nulls",
    ],
)
def test_a_prompt_too_long_for_any_context_is_refused_unread(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"context length is 1024 tokens\. .* at most 32768") as caught:
        require_fitting(body, 1_024)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == next(iter(body))
    require_fitting(body, 2_048)


@pytest.mark.parametrize("prompt", [[7] * 1_025, [[7] * 1_025], ["x", [7] * 1_025]], ids=["one", "listed", "mixed"])
def test_more_tokens_than_the_context_holds_are_refused(prompt: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"context length is 1024 tokens\. .* has 1025 tokens") as caught:
        require_fitting({"prompt": prompt}, 1_024)
    assert caught.value.code == "context_length_exceeded"
    require_fitting({"prompt": prompt}, 1_025)
    require_fitting({"prompt": [[10**9] * 1_024] * 8}, 1_024)


def test_messages_keep_the_fields_that_templates_use() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    kept = [
        {"role": "developer", "content": [{"type": "text", "text": "x"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": "", "tool_call_id": "c"},
    ]
    assert fit(messages=[{**message, "annotations": [], "audio": None} for message in kept])["messages"] == kept


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([function({"type": "string", "minLength": 10**6})], "tools[0].function.parameters"),
        ([function({}), function({"enum": list(range(50_000))})], "tools[1].function.parameters"),
        ([function({"$ref": "#"})], "tools[0].function.parameters"),
        ([function([1])], "tools[0].function.parameters"),
        ([function({"properties": {f"p{n}": {} for n in range(100)}})] * 64, "tools[29].function.parameters"),
        ([function({"properties": {"a": {"enum": list(range(100))}}})] * 128, "tools[20].function.parameters"),
        ([function({})] * 129, "tools"),
        ([{}], "tools[0]"),
        ([5], "tools[0]"),
        ([function({}, name="")], "tools[0].function.name"),
        ([function({}, name="x" * 201)], "tools[0].function.name"),
    ],
    ids=["length", "enum", "circle", "list", "64 large", "128 enums", "129", "empty", "number", "no name", "long name"],
)
def test_costly_tools_are_refused_for_clients_and_simplified_for_runs(tools: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fit(tools=tools)
    assert caught.value.param == param
    if param.endswith("parameters"):
        assert caught.value.message.endswith("or use a model that is not served by the built-in engine.")
        found = fitted({"messages": ASK, "tools": tools}, CHAT, lenient=True)["tools"]
        assert {"type": "object"} in [tool["function"]["parameters"] for tool in found]


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
@pytest.mark.parametrize("of", [{"enum": [1] * 50_000}, {"$ref": "#"}, [1], True], ids=["enum", "$ref", "[]", "true"])
def test_a_costly_response_format_is_refused(kind: str, of: Any) -> None:
    wanted = schema(of) if kind == "json_schema" else {"type": kind, "schema": of}
    with pytest.raises(InvalidRequest, match="Invalid schema for response_format") as caught:
        fit(response_format=wanted)
    assert (caught.value.param, caught.value.code) == ("response_format", "invalid_json_schema")
    advice = " Change the schema, or use a model that is not served by the built-in engine."
    assert caught.value.message.endswith(advice)


@pytest.mark.parametrize(
    ("prompt", "singles"),
    [("x", ["x"]), (["x"], ["x"]), (["x", "y"], ["x", "y"]), ([1, 2], [[1, 2]]), ([[1, 2], [3]], [[1, 2], [3]])],
    ids=repr,
)
def test_a_request_for_several_answers_becomes_several_requests(prompt: Any, singles: list[Any]) -> None:
    found = fitted({"prompt": prompt, "n": 2, "seed": 7, "top_k": 5}, COMPLETIONS)
    assert found["prompt"] == prompt
    wanted = [{"prompt": one, "seed": seed, "top_k": 5} for one in singles for seed in (7, 8)]
    assert single_requests(found) == wanted


def test_a_request_for_one_answer_stays_unchanged() -> None:
    found = fitted({"messages": [{"role": "user", "content": "x"}], "n": 1}, CHAT)
    assert single_requests(found) == [found]


@pytest.mark.parametrize(
    "prompt", [[], 5, {}, ["x"] * 9, [1, "x"], ["x", 1], [-1], [2**31], [1.5], [[]], [[1], None], [True]], ids=repr
)
def test_odd_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(InvalidRequest, match="Invalid 'prompt'"):
        fitted({"prompt": prompt}, COMPLETIONS)


def test_a_completion_accepts_no_chat_parameters() -> None:
    with pytest.raises(InvalidRequest, match="Unknown parameter: 'response_format'"):
        fitted({"prompt": "x", "response_format": {"type": "text"}}, COMPLETIONS)
