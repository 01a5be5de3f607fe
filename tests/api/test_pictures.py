"""Images in messages, for models that accept images and models that do not."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import World
from tests.upstream import Fail, ScriptedUpstream

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def look(file: str) -> dict[str, Any]:
    parts = [{"type": "text", "text": "Look"}, {"type": "image_file", "image_file": {"file_id": file, "detail": "low"}}]
    return {"role": "user", "content": parts}


def run(world: World, *messages: dict[str, Any]) -> Any:
    thread = world.post("/threads", {"messages": list(messages)})["id"]
    return world.wait_ended(world.post(f"/threads/{thread}/runs", {"assistant_id": world.assistant()}))


def test_an_image_file_is_sent_as_data(world: World, upstream: ScriptedUpstream) -> None:
    file = world.file(PNG, "a.png", "vision")
    assert run(world, look(file))["status"] == "completed"
    (_, part) = upstream.requests[-1].body["messages"][-1]["content"]
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert part == {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def test_a_missing_or_invalid_new_image_is_an_invalid_prompt(world: World) -> None:
    text, gone = world.file("no picture", "a.png", "vision"), world.file(PNG, "b.png", "vision")
    failed = run(world, look(text))
    assert (failed["status"], failed["last_error"]["code"]) == ("failed", "invalid_prompt")
    assert text in failed["last_error"]["message"]
    thread = world.post("/threads", {"messages": [look(gone)]})["id"]
    world.delete(f"/files/{gone}")
    assistant = world.assistant()
    ended = world.wait_ended(world.post(f"/threads/{thread}/runs", {"assistant_id": assistant}))
    assert ended["last_error"]["code"] == "invalid_prompt"
    world.post(f"/threads/{thread}/messages", {"role": "user", "content": "Never mind."})
    ended = world.wait_ended(world.post(f"/threads/{thread}/runs", {"assistant_id": assistant}))
    assert ended["status"] == "completed"


def test_a_model_without_vision_fails_the_run_with_invalid_prompt(world: World, script: Callable[..., None]) -> None:
    script(Fail(500, {"error": {"message": "image input is not supported - hint: …", "code": 500}}))
    failed = run(world, look(world.file(PNG, "a.png", "vision")))
    assert failed["last_error"]["code"] == "invalid_prompt"
    assert "cannot see pictures" in failed["last_error"]["message"]


@pytest.mark.parametrize("size", [19, 21], ids=["shown", "too long"])
def test_an_image_of_more_than_20_mb_is_not_sent(world: World, size: int) -> None:
    file = world.file(PNG + bytes(size * 1024 * 1024), "a.png", "vision")
    ended = run(world, look(file))
    assert ended["status"] == ("completed" if size < 20 else "failed"), ended["last_error"]
