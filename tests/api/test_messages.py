"""Messages over HTTP."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import ApiClient
from tests.objects import check
from tests.upstream import Reply
from wire.messages import Message


def test_a_message_has_every_field(api: ApiClient) -> None:
    thread = api.thread()
    made = api.post(f"/threads/{thread}/messages", {"role": "user", "content": "Hé", "metadata": {"a": "b"}})
    check(Message, made)
    assert made["content"] == [{"type": "text", "text": {"value": "Hé", "annotations": []}}]
    assert (made["status"], made["run_id"], made["assistant_id"], made["role"]) == ("completed", None, None, "user")
    assert api.get(f"/threads/{thread}/messages/{made['id']}") == made


def test_string_parts_become_content_objects(api: ApiClient) -> None:
    file = api.file(b"\x89PNG", "a.png", "vision")
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        {"type": "image_file", "image_file": {"file_id": file, "detail": "low"}},
    ]
    made = api.post(f"/threads/{api.thread()}/messages", {"role": "assistant", "content": parts})
    assert made["content"][0] == {"type": "text", "text": {"value": "Look", "annotations": []}}
    assert made["content"][1]["image_url"]["url"] == "https://x.example/a.png"
    assert made["content"][2]["image_file"] == {"file_id": file, "detail": "low"}


def test_only_a_message_s_metadata_changes(api: ApiClient) -> None:
    thread = api.thread("x")
    message = api.get(f"/threads/{thread}/messages")["data"][0]
    path = f"/threads/{thread}/messages/{message['id']}"
    assert api.post(path, {"metadata": {"a": "b"}}) == {**message, "metadata": {"a": "b"}}
    assert api.post(path, {"content": "y"}, 400)["error"]["code"] == "unknown_parameter"


def test_a_message_is_not_found_in_another_thread(api: ApiClient) -> None:
    thread, other = api.thread("x"), api.thread()
    id = api.get(f"/threads/{thread}/messages")["data"][0]["id"]
    assert api.get(f"/threads/{other}/messages/{id}", 404)["error"]["message"] == f"No message found with id '{id}'."


def test_a_deleted_message_is_not_found(api: ApiClient) -> None:
    thread = api.thread("x")
    id = api.get(f"/threads/{thread}/messages")["data"][0]["id"]
    gone = api.delete(f"/threads/{thread}/messages/{id}")
    assert gone == {"id": id, "object": "thread.message.deleted", "deleted": True}
    api.get(f"/threads/{thread}/messages/{id}", 404)


def test_no_message_is_added_while_a_run_is_active(api: ApiClient, script: Callable[..., None]) -> None:
    script(Reply("a b", start_s=30))
    run = api.run()
    thread = run["thread_id"]
    error = api.post(f"/threads/{thread}/messages", {"role": "user", "content": "x"}, 400)["error"]
    assert error == {
        "message": f"Can't add messages to {thread} while a run {run['id']} is active.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    api.post(f"/threads/{thread}/runs/{run['id']}/cancel")
    api.wait_ended(run)
    api.post(f"/threads/{thread}/messages", {"role": "user", "content": "x"})


def test_the_messages_of_one_run_can_be_listed(api: ApiClient) -> None:
    run = api.wait_ended(api.run())
    listed = api.get(f"/threads/{run['thread_id']}/messages", params={"run_id": run["id"]})
    assert [(one["role"], one["run_id"]) for one in listed["data"]] == [("assistant", run["id"])]


def test_v1_attaches_files_by_file_ids(api: ApiClient) -> None:
    v1 = {"OpenAI-Beta": "assistants=v1"}
    file = api.file()
    body = {"role": "user", "content": "x", "file_ids": [file]}
    path = f"/threads/{api.thread()}/messages"
    made = api.post(path, body, headers=v1)
    assert made["file_ids"] == [file]
    assert api.get(f"{path}/{made['id']}")["attachments"][0]["file_id"] == file


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "role", "missing_required_parameter"),
        ({"role": "user"}, "content", "missing_required_parameter"),
        ({"role": "system", "content": "x"}, "role", "invalid_value"),
        ({"role": "user", "content": 5}, "content", "invalid_type"),
        ({"role": "user", "content": []}, "content", "empty_array"),
        ({"role": "user", "content": [{"type": "video"}]}, "content[0].type", "invalid_value"),
        ({"role": "user", "content": "x", "metadata": {"k": 1}}, "metadata.k", "invalid_type"),
    ],
    ids=["nothing", "no content", "role", "number", "no parts", "part type", "metadata"],
)
def test_an_invalid_message_is_a_400_with_its_position(api: ApiClient, body: Any, param: str, code: str) -> None:
    error = api.post(f"/threads/{api.thread()}/messages", body, 400)["error"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
