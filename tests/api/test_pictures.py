"""Images in messages, for models that accept images and models that do not."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import ApiClient
from tests.upstream import Fail, ScriptedUpstream

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def look(file: str) -> dict[str, Any]:
    parts = [{"type": "text", "text": "Look"}, {"type": "image_file", "image_file": {"file_id": file, "detail": "low"}}]
    return {"role": "user", "content": parts}


def run(api: ApiClient, *messages: dict[str, Any]) -> Any:
    thread = api.post("/threads", {"messages": list(messages)})["id"]
    return api.wait_ended(api.post(f"/threads/{thread}/runs", {"assistant_id": api.assistant()}))


def test_an_image_file_is_sent_as_data(api: ApiClient, upstream: ScriptedUpstream) -> None:
    file = api.file(PNG, "a.png", "vision")
    assert run(api, look(file))["status"] == "completed"
    (_, part) = upstream.requests[-1].body["messages"][-1]["content"]
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert part == {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def test_a_missing_or_invalid_new_image_is_an_invalid_prompt(api: ApiClient) -> None:
    text, gone = api.file("no picture", "a.png", "vision"), api.file(PNG, "b.png", "vision")
    failed = run(api, look(text))
    assert (failed["status"], failed["last_error"]["code"]) == ("failed", "invalid_prompt")
    assert text in failed["last_error"]["message"]
    thread = api.post("/threads", {"messages": [look(gone)]})["id"]
    api.delete(f"/files/{gone}")
    assistant = api.assistant()
    ended = api.wait_ended(api.post(f"/threads/{thread}/runs", {"assistant_id": assistant}))
    assert ended["last_error"]["code"] == "invalid_prompt"
    api.post(f"/threads/{thread}/messages", {"role": "user", "content": "Never mind."})
    ended = api.wait_ended(api.post(f"/threads/{thread}/runs", {"assistant_id": assistant}))
    assert ended["status"] == "completed"


def test_a_model_without_vision_fails_the_run_with_invalid_prompt(api: ApiClient, script: Callable[..., None]) -> None:
    script(Fail(500, {"error": {"message": "image input is not supported - hint: …", "code": 500}}))
    failed = run(api, look(api.file(PNG, "a.png", "vision")))
    assert failed["last_error"]["code"] == "invalid_prompt"
    assert "cannot see pictures" in failed["last_error"]["message"]


@pytest.mark.parametrize("size", [19, 21], ids=["shown", "too long"])
def test_an_image_of_more_than_20_mb_is_not_sent(api: ApiClient, size: int) -> None:
    file = api.file(PNG + bytes(size * 1024 * 1024), "a.png", "vision")
    ended = run(api, look(file))
    assert ended["status"] == ("completed" if size < 20 else "failed"), ended["last_error"]
