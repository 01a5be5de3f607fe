"""A collected stream equals the same server's answer without streaming."""

from typing import Any

import orjson

from chains.stream_accumulator import StreamAccumulator


def assembled(*chunks: dict[str, Any] | bytes) -> StreamAccumulator:
    accumulator = StreamAccumulator()
    for chunk in chunks:
        accumulator.add(chunk if isinstance(chunk, bytes) else orjson.dumps(chunk))
    return accumulator


def choice(finish: str | None = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m",
            "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}  # fmt: skip


def test_text_reasoning_and_usage_become_one_completion() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    whole = assembled(
        choice(role="assistant", content=None),
        choice(reasoning_content="Hm"),
        choice(reasoning_content="m."),
        choice(content="Good "),
        choice(content="day"),
        choice("stop"),
        {"id": "c1", "choices": [], "usage": usage},
        b"[DONE]",
    ).completion()
    message = {"role": "assistant", "content": "Good day", "reasoning_content": "Hmm."}
    assert whole == {
        "id": "c1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


def test_tool_calls_are_joined_by_their_index() -> None:
    def call(index: int, arguments: str, **fields: Any) -> dict[str, Any]:
        return {"index": index, **fields, "function": {"arguments": arguments, **fields.pop("function", {})}}

    whole = assembled(
        choice(tool_calls=[{**call(0, ""), "id": "a", "function": {"name": "f", "arguments": ""}}]),
        choice(tool_calls=[call(0, '{"x"')]),
        choice(tool_calls=[call(0, ":1}"), {**call(1, ""), "id": "b", "function": {"name": "g", "arguments": "{}"}}]),
        choice("tool_calls"),
    ).completion()
    assert whole is not None
    assert whole["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_several_choices_and_their_probabilities_stay_apart() -> None:
    one = choice("stop", content="a")
    one["choices"][0]["logprobs"] = {"content": [{"token": "a"}]}
    whole = assembled(choice(index=1, content="b"), one, choice("length", index=1)).completion()
    assert whole is not None
    assert [each["message"]["content"] for each in whole["choices"]] == ["a", "b"]
    assert [each["finish_reason"] for each in whole["choices"]] == ["stop", "length"]
    assert whole["choices"][0]["logprobs"] == {"content": [{"token": "a"}]}


def test_an_unfinished_answer_is_none_and_an_error_is_kept() -> None:
    assert assembled(choice(content="cut o"), b"garbage").completion() is None
    error = {"error": {"code": 500, "message": "no"}}
    assert assembled(choice(content="cut o"), error).error == error
