"""Requests become objects with every field of the reference, and only the given fields change."""

from typing import Any

import pytest

from tests.objects import check
from wire.assistants import Assistant, AssistantCreate, AssistantModify, assistant_changes, new_assistant
from wire.messages import Message, MessageCreate, annotation, new_message, open_message
from wire.pages import deletion, list_envelope
from wire.runs import Run, RunCreate, ThreadRunCreate, new_run
from wire.steps import RunStep, open_step
from wire.threads import Thread, ThreadCreate, ThreadModify, new_thread, thread_changes
from wire.v1 import as_v1
from wire.validation import parse

SCHEMA = {"type": "object", "properties": {"place": {"type": "string", "x-extra": [1, None]}}}


def assistant(**fields: Any) -> dict[str, Any]:
    return new_assistant(parse(AssistantCreate, {"model": "m", **fields}), id="asst_1", now=5)


def run(assistant_fields: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    request = parse(RunCreate, {"assistant_id": "asst_1", **fields})
    made = new_run(request, assistant(**assistant_fields or {}), id="run_1", thread_id="thread_1", now=5, expiry_s=600)
    check(Run, made)
    return made


def message(content: Any = "Hi", **fields: Any) -> dict[str, Any]:
    request = parse(MessageCreate, {"role": "user", "content": content, **fields})
    made = new_message(request, id="msg_1", thread_id="thread_1", now=5)
    check(Message, made)
    return made


def test_new_objects_have_every_field_of_the_reference() -> None:
    made = run()
    check(Assistant, assistant())
    check(Thread, new_thread(ThreadCreate(), id="thread_1", now=5))
    opened = open_message(id="msg_1", thread_id="thread_1", run_id="run_1", assistant_id="asst_1", now=5)
    check(Message, opened)
    details: Any = {"type": "tool_calls", "tool_calls": []}
    check(RunStep, open_step(id="step_1", run=made, step_details=details, now=6))


def test_nulls_become_the_defaults() -> None:
    made = assistant(temperature=None, top_p=None, metadata=None, response_format=None, tools=None)
    assert (made["temperature"], made["top_p"], made["response_format"]) == (1.0, 1.0, "auto")
    assert (made["metadata"], made["tools"], made["tool_resources"]) == ({}, [], {})


def test_tools_and_schemas_are_returned_as_sent() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": None}}]
    shape = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
    made = assistant(tools=tools, response_format=shape)
    assert made["tools"] == tools
    assert made["response_format"] == shape


def test_modifying_an_assistant_changes_only_the_given_fields() -> None:
    body = assistant(name="A", metadata={"k": "v"})
    assert assistant_changes(parse(AssistantModify, {}), body) == {}
    assert assistant_changes(parse(AssistantModify, {"name": None}), body) == {"name": None}
    assert assistant_changes(parse(AssistantModify, {"metadata": {"a": "b"}}), body) == {"metadata": {"a": "b"}}
    assert assistant_changes(parse(AssistantModify, {"temperature": None}), body) == {"temperature": 1.0}
    assert assistant_changes(parse(AssistantModify, {"model": None, "tools": None}), body) == {}


def test_modifying_a_thread_changes_only_the_given_fields() -> None:
    assert thread_changes(parse(ThreadModify, {})) == {}
    assert thread_changes(parse(ThreadModify, {"metadata": None})) == {"metadata": {}}


def test_a_run_uses_the_assistant_s_values_unless_overridden() -> None:
    base = {"instructions": "Be brief.", "temperature": 0.5, "reasoning_effort": "low", "metadata": {"a": "b"}}
    plain = run(base)
    assert plain["expires_at"] == 605
    assert (plain["model"], plain["instructions"], plain["temperature"]) == ("m", "Be brief.", 0.5)
    assert (plain["reasoning_effort"], plain["metadata"]) == ("low", {})
    other = run(base, model="n", instructions="Be long.", temperature=0, tools=[{"type": "code_interpreter"}])
    assert (other["model"], other["instructions"], other["temperature"]) == ("n", "Be long.", 0)
    assert other["tools"] == [{"type": "code_interpreter"}]


@pytest.mark.parametrize(
    ("base", "fields", "instructions"),
    [
        (None, {}, ""),
        ("A", {"additional_instructions": "B"}, "A\n\nB"),
        (None, {"additional_instructions": "B"}, "B"),
        ("A", {"instructions": "", "additional_instructions": "B"}, "B"),
        ("A", {"instructions": ""}, ""),
    ],
)
def test_instructions_are_never_null_and_additions_are_appended(
    base: str | None, fields: dict[str, Any], instructions: str
) -> None:
    assert run({"instructions": base}, **fields)["instructions"] == instructions


def test_a_budget_of_minus_one_means_none() -> None:
    made = run(max_prompt_tokens=-1, max_completion_tokens=16)
    assert (made["max_prompt_tokens"], made["max_completion_tokens"]) == (None, 16)


def test_a_run_shows_its_defaults() -> None:
    made = run()
    assert made["truncation_strategy"] == {"type": "auto", "last_messages": None}
    assert (made["tool_choice"], made["parallel_tool_calls"]) == ("auto", True)
    named = {"type": "function", "function": {"name": "f"}}
    assert run(tool_choice=named)["tool_choice"] == named


def test_create_and_run_accepts_no_additional_messages() -> None:
    assert "additional_messages" not in ThreadRunCreate.model_fields


def test_string_and_array_content_become_content_parts() -> None:
    text = {"type": "text", "text": {"value": "Hi", "annotations": []}}
    assert message("Hi")["content"] == [text]
    parts = [
        {"type": "text", "text": "Hi"},
        {"type": "image_url", "image_url": {"url": "http://x/y.png"}},
        {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "low"}},
    ]
    assert message(parts)["content"] == [
        text,
        {"type": "image_url", "image_url": {"url": "http://x/y.png", "detail": "auto"}},
        {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "low"}},
    ]


def test_a_list_has_first_and_last_ids() -> None:
    assert list_envelope([], False)["last_id"] is None
    page = list_envelope([{"id": "a"}, {"id": "b"}], True)
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("a", "b", True)
    assert deletion("msg_1", "thread.message") == {"id": "msg_1", "object": "thread.message.deleted", "deleted": True}


@pytest.mark.parametrize("tools", [[], ["code_interpreter"], ["retrieval"], ["retrieval", "code_interpreter"]])
def test_v1_file_ids_of_an_assistant_are_returned(tools: list[str]) -> None:
    made = assistant(tools=[{"type": kind} for kind in tools], file_ids=["file-1", "file-2"])
    assert [tool["type"] for tool in made["tools"]] == [kind.replace("retrieval", "file_search") for kind in tools]
    assert as_v1(made)["file_ids"] == ["file-1", "file-2"]
    assert "file_ids" not in made
    changed = made | assistant_changes(parse(AssistantModify, {"file_ids": ["file-3"]}), made)
    assert as_v1(changed)["file_ids"] == ["file-3"]


def test_v1_shows_file_search_as_retrieval() -> None:
    search = {"type": "file_search", "file_search": {"max_num_results": 3}}
    made = run({"tools": [search, {"type": "code_interpreter"}]}, tool_choice={"type": "retrieval"})
    assert (made["tools"][0], made["tool_choice"]) == (search, {"type": "file_search"})
    shown = as_v1(made)
    assert shown["tools"] == [{"type": "retrieval"}, {"type": "code_interpreter"}]
    assert shown["tool_choice"] == {"type": "retrieval"}
    found: Any = {"id": "call_1", "type": "file_search", "file_search": {"results": []}}
    called: Any = {"id": "call_2", "type": "function", "function": {"name": "f", "arguments": "{}", "output": None}}
    details = {"type": "tool_calls", "tool_calls": [found, called]}
    step = open_step(id="step_1", run=made, step_details=details, now=5)
    expected = [{"id": "call_1", "type": "retrieval", "retrieval": {}}, called]
    assert as_v1(step)["step_details"] == {"type": "tool_calls", "tool_calls": expected}
    delta = {
        "object": "thread.run.step.delta",
        "delta": {"step_details": {**details, "tool_calls": [{"index": 0} | found]}},
    }
    assert as_v1(delta)["delta"]["step_details"]["tool_calls"] == [{"index": 0} | expected[0]]
    assert step["step_details"]["tool_calls"][0] is found


def test_v1_shows_a_quote_in_each_file_citation() -> None:
    cited = annotation("【0:0†source】", "file-1", 3)
    path = {"type": "file_path", "text": "x", "start_index": 0, "end_index": 1, "file_path": {"file_id": "file-2"}}
    part: Any = {"type": "text", "text": {"value": "So 【0:0†source】", "annotations": [cited, path]}}
    shown = as_v1(message() | {"content": [part]})["content"][0]["text"]["annotations"]
    assert shown == [{**cited, "file_citation": {"file_id": "file-1", "quote": ""}}, path]
    delta = {"object": "thread.message.delta", "delta": {"content": [{"index": 0} | part]}}
    assert as_v1(delta)["delta"]["content"][0]["text"]["annotations"] == shown
    assert "quote" not in cited["file_citation"]
    plain = {
        "object": "thread.message.delta",
        "delta": {"content": [{"index": 0, "type": "text", "text": {"value": "x"}}]},
    }
    assert as_v1(plain) == plain


def test_v1_file_ids_of_a_message_become_attachments() -> None:
    made = message(file_ids=["file-1"])
    assert made["attachments"][0]["file_id"] == "file-1"
    page = as_v1(list_envelope([made], False))
    assert page["data"][0]["file_ids"] == ["file-1"]


def test_v1_shows_no_fields_of_v2() -> None:
    thread = new_thread(ThreadCreate(), id="thread_1", now=5)
    assert thread.keys() - as_v1(thread).keys() == {"tool_resources"}
    assert "attachments" not in as_v1(message(file_ids=["file-1"]))
    shown = as_v1(run(None))
    assert shown["file_ids"] == []
    assert shown.keys().isdisjoint({"tool_resources", "top_p", "parallel_tool_calls", "reasoning_effort"})
