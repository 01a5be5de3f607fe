"""Objects of dumps: their order, the fields that are kept, added or dropped, and the values that are refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.objects import check
from wire.dumps import assistant_parts, kind_of, message_body, oldest_first, run_body, step_body, thread_body
from wire.errors import InvalidRequest
from wire.messages import Message
from wire.runs import Run
from wire.steps import RunStep


def message(**given: Any) -> dict[str, Any]:
    made = message_body({"role": "user", "content": "x", **given}, id="msg_1", thread_id="thread_1", created_at=7)
    check(Message, made)
    return made


@given(st.lists(st.integers(0, 5), max_size=12))
def test_both_list_orders_give_the_same_result(times: list[int]) -> None:
    rising = [{"id": number, "created_at": time} for number, time in enumerate(sorted(times))]
    assert oldest_first(rising) == rising
    if len(set(times)) > 1:
        assert oldest_first(rising[::-1]) == rising


@given(st.lists(st.integers(0, 9), max_size=12))
def test_any_order_becomes_oldest_first_without_loss(times: list[int]) -> None:
    given = [{"id": number, "created_at": time} for number, time in enumerate(times)]
    found = oldest_first(given)
    assert [each["created_at"] for each in found] == sorted(times)
    assert sorted(each["id"] for each in found) == list(range(len(times)))


def test_entries_without_a_time_keep_their_position() -> None:
    given: list[dict[str, Any]] = [{"id": 1, "created_at": 5}, {"id": 2}, {"id": 3, "created_at": 6}, {"id": 4}]
    assert oldest_first(given) == given
    assert oldest_first([{"id": 1}, {"id": 2}]) == [{"id": 1}, {"id": 2}]


def test_a_minimal_message_gets_every_field() -> None:
    made = message(role="assistant", content="Hello")
    assert made["content"] == [{"type": "text", "text": {"value": "Hello", "annotations": []}}]
    assert (made["status"], made["completed_at"], made["created_at"]) == ("completed", 7, 7)


def test_an_unfinished_message_becomes_incomplete() -> None:
    made = message(status="in_progress", completed_at=None)
    assert (made["status"], made["incomplete_at"], made["completed_at"]) == ("incomplete", 7, None)
    assert made["incomplete_details"] == {"reason": "run_failed"}


def test_every_kind_of_content_and_citation_is_imported() -> None:
    late = {
        "type": "file_citation",
        "text": "[2]",
        "start_index": 9,
        "end_index": 12,
        "file_citation": {"file_id": "f"},
    }
    early = {"type": "file_path", "text": "[1]", "start_index": 1, "end_index": 4, "file_path": {"file_id": "g"}}
    made = message(
        content=[
            {"type": "text", "text": {"value": "a[1] and b[2]", "annotations": [late, early]}},
            {"type": "text", "text": "plain"},
            {"type": "image_file", "image_file": {"file_id": "file-1"}},
            {"type": "image_url", "image_url": {"url": "https://a.example/x.png", "detail": "low"}},
            {"type": "refusal", "refusal": "No."},
        ]
    )
    assert made["content"] == [
        {"type": "text", "text": {"value": "a[1] and b[2]", "annotations": [early, late]}},
        {"type": "text", "text": {"value": "plain", "annotations": []}},
        {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "auto"}},
        {"type": "image_url", "image_url": {"url": "https://a.example/x.png", "detail": "low"}},
        {"type": "text", "text": {"value": "No.", "annotations": []}},
    ]


def test_v1_file_ids_become_attachments_unless_there_are_some() -> None:
    both = [{"type": "file_search"}, {"type": "code_interpreter"}]
    assert message(file_ids=["file-1"])["attachments"] == [{"file_id": "file-1", "tools": both}]
    attached = [{"file_id": "file-2", "tools": [{"type": "file_search"}]}]
    assert message(file_ids=["file-2"], attachments=attached)["attachments"] == attached


def test_unknown_fields_of_a_dump_are_ignored() -> None:
    assert "score" not in message(score=0.5, reasoning=None)
    assert thread_body({"pages": 3, "metadata": None}, id="thread_1", created_at=1)["metadata"] == {}


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"role": "system"}, "system"),
        ({"content": None}, "content"),
        ({"content": [{"type": "video"}]}, "Supported values are: 'text'"),
        ({"content": [{"type": "text", "text": 5}]}, "content[0].text"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"status": "lost"}, "lost"),
    ],
)
def test_an_invalid_value_is_named_in_the_error(given: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        message(**given)
    assert where in caught.value.message


@pytest.mark.parametrize("time", [-1, 1e15, "2024-01-01", True])
def test_an_invalid_time_is_refused(time: Any) -> None:
    with pytest.raises(InvalidRequest):
        oldest_first([{"created_at": time}])


def test_a_finished_run_is_completed_and_an_unfinished_one_dropped() -> None:
    given = {"id": "run_1", "created_at": 1, "assistant_id": "asst_1", "status": "completed", "usage": None}
    made = run_body({**given, "instructions": None, "steps": [], "unheard_of": 1}, thread_id="thread_1")
    assert made is not None
    check(Run, made)
    assert (made["instructions"], made["thread_id"]) == ("", "thread_1")
    details = {"type": "message_creation", "message_creation": {"message_id": "msg_1"}}
    step = step_body(
        {"id": "step_1", "created_at": 1, "type": "message_creation", "status": "completed", "step_details": details},
        run_id=made["id"],
        thread_id=made["thread_id"],
        assistant_id=made["assistant_id"],
    )
    check(RunStep, step)
    assert (step["run_id"], step["assistant_id"], step["step_details"]) == ("run_1", "asst_1", details)
    assert run_body({**given, "status": "requires_action"}, thread_id="thread_1") is None
    with pytest.raises(InvalidRequest):
        run_body({**given, "status": "unheard_of"}, thread_id="thread_1")


def test_default_values_of_an_assistant_do_not_count_as_requested() -> None:
    given = {"id": "asst_1", "model": "m", "created_at": 5, "temperature": 1.0, "top_p": 0.5}
    body, _, asked = assistant_parts({**given, "tools": [{"type": "retrieval"}], "file_ids": ["file-1"]}, now=9)
    assert (body["created_at"], body["temperature"], body["top_p"]) == (5, 1.0, 0.5)
    assert asked == {"top_p": 0.5}
    assert [tool["type"] for tool in body["tools"]] == ["file_search"]
    assert body["tool_resources"] == {}


def test_the_kind_of_an_entry_is_recognized() -> None:
    assert kind_of({"object": "thread.run.step"}) == "step"
    assert kind_of({"messages": []}) == "thread"
    assert kind_of({"role": "user", "content": "x"}) == "message"
    for unknown in ({"object": "file"}, {"object": ["x"]}, {}, [], "x", None):
        with pytest.raises(InvalidRequest):
            kind_of(unknown)


def test_empty_arrays_of_php_become_objects() -> None:
    thread = thread_body({"metadata": [], "tool_resources": []}, id="thread_1", created_at=1)
    assert (thread["metadata"], thread["tool_resources"]) == ({}, {})
    message = message_body(
        {"role": "user", "content": "x", "metadata": []}, id="msg_1", thread_id="thread_1", created_at=1
    )
    assert message["metadata"] == {}
    run = run_body(
        {"id": "run_1", "status": "completed", "created_at": 1, "assistant_id": "asst_1", "metadata": [], "tools": []},
        thread_id="thread_1",
    )
    assert run is not None
    assert (run["metadata"], run["tools"]) == ({}, [])
