"""The routes of a turn parse their parameters themselves, as FastAPI parses them for other routes."""

from typing import Any

import pytest

from tests.api.conftest import ApiClient

STRAY = "/threads/thread_aaaaaaaaaaaaaaaaaaaaaaaa"
RUN = {"assistant_id": "ASSISTANT"}
GOOD: list[tuple[str, Any]] = [
    ("/threads", {"messages": [{"role": "user", "content": "Hi"}], "metadata": {"a": "b"}}),
    ("/threads/runs", {**RUN, "thread": {"messages": [{"role": "user", "content": "Hi"}]}}),
    ("/threads/THREAD/messages", {"role": "user", "content": [{"type": "text", "text": "Hi"}]}),
    ("/threads/THREAD/runs", {**RUN, "model": "m"}),
    ("/threads/THREAD/runs?include[]=step_details.tool_calls[*].file_search.results[*].content", RUN),
    ("/threads/THREAD/runs?extensions=true", RUN),
    ("/threads?unknown=1", {}),
]
WRONG: list[tuple[str, Any, int, str | None]] = [
    *((path, {**body, "stray": 1}, 400, "stray") for path, body in GOOD),
    ("/threads", {"messages": "no"}, 400, "messages"),
    ("/threads/nonsense/messages", {"role": "user", "content": "Hi"}, 400, "thread_id"),
    (f"{STRAY}/messages", {"role": "user", "content": "Hi"}, 404, None),
    (f"{STRAY}/runs", RUN, 404, None),
    ("/threads/THREAD/messages", {"role": "user", "content": 1}, 400, "content"),
    ("/threads/THREAD/runs", {"assistant_id": "asst_aaaaaaaaaaaaaaaaaaaaaaaa"}, 404, None),
    ("/threads/THREAD/runs", {"assistant_id": "stranger"}, 400, "assistant_id"),
    ("/threads/THREAD/runs?extensions=perhaps", RUN, 400, "extensions"),
    ("/threads/THREAD/runs?include[]=everything", RUN, 400, "include[]"),
    ("/threads/runs?include=everything", RUN, 400, "include[]"),
    ("/threads/THREAD/elsewhere", {}, 404, None),
]
betas = pytest.mark.parametrize("beta", ["assistants=v2", "assistants=v1"])


def post(api: ApiClient, path: str, body: Any, **headers: str) -> Any:
    if body.get("assistant_id") == "ASSISTANT":
        body = {**body, "assistant_id": api.assistant()}
    url = path.replace("THREAD", api.thread("Hello")) if "THREAD" in path else path
    return api.client.post(url, json=body, headers=headers)


@betas
@pytest.mark.parametrize(("path", "body"), GOOD)
def test_a_valid_request_is_answered(api: ApiClient, path: str, body: Any, beta: str) -> None:
    answer = post(api, path, body, **{"OpenAI-Beta": beta})
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"]


@betas
@pytest.mark.parametrize(("path", "body", "status", "param"), WRONG)
def test_an_invalid_request_is_refused_with_the_parameter_named(
    api: ApiClient, path: str, body: Any, status: int, param: str | None, beta: str
) -> None:
    answer = post(api, path, body, **{"OpenAI-Beta": beta})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("path", ["/threads/THREAD/runs", "/threads/THREAD/runs?extensions=true", "/threads/runs"])
def test_a_wrong_header_is_refused_whatever_the_query_says(api: ApiClient, path: str) -> None:
    answer = post(api, path, RUN, **{"x-threadhold-extensions": "perhaps"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-threadhold-extensions")
