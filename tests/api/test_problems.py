"""Errors over HTTP: OpenAI's shape and messages for any request."""

from typing import Any

import httpx2
import pytest

from tests.api.conftest import ApiClient


def error_of(answer: httpx2.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"].startswith("req_")
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    found: dict[str, Any] = body["error"]
    return found


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/threads/undefined", 400,
         "Invalid 'thread_id': 'undefined'. Expected an ID that begins with 'thread'."),
        ("GET", "/threads/thread_X", 404, "No thread found with id 'thread_X'."),
        ("GET", "/assistants/asst_X", 404, "No assistant found with id 'asst_X'."),
        ("POST", "/threads/thread_X", 404, "No thread found with id 'thread_X'."),
        ("DELETE", "/threads/thread_X", 404, "No thread found with id 'thread_X'."),
        ("GET", "/threads/thread_X/runs/run_X", 404, "No thread found with id 'thread_X'."),
        ("GET", "/nothing", 404, "Invalid URL (GET /v1/nothing)"),
        ("PUT", "/threads", 405, "Not allowed to PUT on /v1/threads."),
        ("GET", "/assistants?limit=101", 400,
         "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 instead."),
        ("GET", "/assistants?limit=0", 400,
         "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got 0 instead."),
        ("GET", "/assistants?order=up", 400, "Invalid value: 'up'. Supported values are: 'asc' and 'desc'."),
    ],
)  # fmt: skip
def test_error_messages_are_openai_s(client: httpx2.Client, method: str, path: str, status: int, message: str) -> None:
    assert error_of(client.request(method, path), status)["message"] == message


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b'{"metadata": {"a": "\\ud800"}}', 400, "invalid_json"),
        (b'{"metadata": NaN}', 400, "invalid_json"),
        (b"[" * 5000 + b"]" * 5000, 400, "invalid_json"),
        (b'{"metadata":' * 150 + b"1" + b"}" * 150, 400, "invalid_json"),
        (b"[1]", 400, "invalid_type"),
        (b'"x"', 400, "invalid_type"),
        (b"null", 400, None),
        (b'{"x": 1}', 400, "unknown_parameter"),
        (b'{"metadata": {"a": "' + b"x" * 300_000 + b'"}}', 413, "request_too_large"),
    ],
    ids=[
        "cut",
        "no utf-8",
        "surrogate",
        "nan",
        "deep list",
        "deep object",
        "list",
        "string",
        "null",
        "unknown",
        "large",
    ],
)
def test_an_unusable_body_is_refused(client: httpx2.Client, body: bytes, status: int, code: str | None) -> None:
    error = error_of(client.post("/threads", content=body, headers={"content-type": "application/json"}), status)
    if code is not None:
        assert error["code"] == code


def test_a_body_over_the_limit_gets_both_sizes_and_the_setting(client: httpx2.Client) -> None:
    body = b'{"metadata": {"a": "' + b"x" * 300_000 + b'"}}'
    answer = client.post("/threads", content=body, headers={"content-type": "application/json"})
    assert error_of(answer, 413)["message"] == (
        f"The request body has {len(body)} bytes, which is more than the 200000 that MAX_BODY_BYTES allows. "
        "Send it in several requests or raise MAX_BODY_BYTES."
    )


def test_a_large_body_without_a_length_is_refused_too(client: httpx2.Client) -> None:
    chunks = (b'{"metadata": {"a": "' + b"x" * 100_000 for _ in range(3))
    answer = client.post("/threads", content=chunks, headers={"content-type": "application/json"})
    error = error_of(answer, 413)
    assert error["code"] == "request_too_large"
    assert error["message"].startswith("The request body has more than the 200000 bytes that MAX_BODY_BYTES allows. ")


def test_a_number_beyond_64_bits_can_be_stored(api: ApiClient) -> None:
    tool = b'{"model":"m","tools":[{"type":"function","function":{"name":"f","parameters":{"maximum":%d}}}]}' % 10**30
    made = api.client.post("/assistants", content=tool, headers={"content-type": "application/json"})
    assert made.status_code == 200
    api.get(f"/assistants/{made.json()['id']}")


def test_a_body_of_another_type_is_a_415(client: httpx2.Client) -> None:
    answer = client.post("/threads", content=b"a=b", headers={"content-type": "application/x-www-form-urlencoded"})
    assert error_of(answer, 415)["code"] == "unsupported_media_type"


@pytest.mark.parametrize("id", ["thread_%00", "thread_é", "thread_" + "x" * 500, "thread_%F0%9F%A6%89", "thread_'--"])
def test_an_odd_id_is_not_found_or_refused(client: httpx2.Client, id: str) -> None:
    answer = client.get(f"/threads/{id}")
    assert answer.status_code in (400, 404)


def test_an_unknown_cursor_is_named(client: httpx2.Client) -> None:
    assert error_of(client.get("/assistants", params={"after": "asst_never"}), 400)["param"] == "after"


def test_the_assistant_id_of_a_run_must_look_like_one(api: ApiClient) -> None:
    error = api.post(f"/threads/{api.thread()}/runs", {"assistant_id": "gpt-4"}, 400)["error"]
    assert error["message"] == "Invalid 'assistant_id': 'gpt-4'. Expected an ID that begins with 'asst'."
    error = api.post(f"/threads/{api.thread()}/runs", {}, 400)["error"]
    assert error["message"] == "Missing required parameter: 'assistant_id'."
