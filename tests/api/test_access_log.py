"""One log line per request and per run, linked by the request's id, and without user content."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.api.conftest import ApiClient
from tests.process import ServerProcess
from tests.upstream import Fail, Hang, Raw, Reply, ScriptedUpstream

QUOTED = "the zebra in your prompt is not liked"
QUESTION = "a very private question"
ANSWERED = "an answer that nobody else shall read"


def lines(server: ServerProcess, **wanted: Any) -> list[dict[str, Any]]:
    """Return the log's lines with these fields, as soon as there is one: a thread of the server writes them."""
    end = time.monotonic() + 5
    while True:
        entries = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        found = [line for line in entries if all(line.get(name) == value for name, value in wanted.items())]
        if found or time.monotonic() > end:
            return found
        time.sleep(0.02)


def run_streamed(api: ApiClient, text: str = QUESTION) -> httpx2.Response:
    thread = {"messages": [{"role": "user", "content": text}]}
    body = {"assistant_id": api.assistant(), "thread": thread, "stream": True}
    return api.client.post("/threads/runs", json=body)


def test_a_request_is_one_line_with_the_id_of_its_answer(server: ServerProcess, api: ApiClient) -> None:
    answer = api.client.get("/threads/thread_nobodyhasthisone0000000?limit=1")
    (line,) = lines(server, request_id=answer.headers["x-request-id"])
    assert (line["method"], line["status"], line["owner"]) == ("GET", 404, "default")
    assert (line["path"], line["route"]) == ("/v1/threads/thread_nobodyhasthisone0000000", "/threads/{thread_id}")
    assert line["took_ms"] > 0


def test_a_run_is_one_line_with_the_id_of_its_request(
    server: ServerProcess, api: ApiClient, script: Callable[..., None]
) -> None:
    script(Reply(ANSWERED, usage={"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}))
    answer = run_streamed(api)
    mine = lines(server, request_id=answer.headers["x-request-id"], logger="threadhold.runs")
    (line,) = mine
    assert (line["status"], line["prompt_tokens"], line["completion_tokens"]) == ("completed", 7, 5)
    assert line["run_id"].startswith("run_")
    assert 0 <= line["first_token_ms"] <= line["took_ms"]


def test_a_queued_run_s_line_has_its_own_request_s_id(tmp_path: Path) -> None:
    with (
        ScriptedUpstream() as upstream,
        ServerProcess(tmp_path, MODEL_URL=upstream.url, MAX_RUNS="1") as server,
        httpx2.Client(base_url=f"{server.url}/v1", timeout=30) as client,
    ):
        upstream.script(Hang())
        api = ApiClient(client)
        body = {"assistant_id": api.assistant(), "thread": {"messages": [{"role": "user", "content": "Well?"}]}}
        answers = [client.post("/threads/runs", json=body) for _ in range(3)]
        asked = {answer.json()["id"]: answer.headers["x-request-id"] for answer in answers}
        first = answers[0].json()
        api.post(f"/threads/{first['thread_id']}/runs/{first['id']}/cancel")
        for answer in answers[1:]:
            assert api.wait_ended(answer.json())["status"] == "completed"
        found = [line for id in asked for line in lines(server, run_id=id, logger="threadhold.runs")]
    assert [line["status"] for line in found] == ["cancelled", "completed", "completed"]
    assert {line["run_id"]: line["request_id"] for line in found} == asked


def test_content_of_clients_models_and_upstreams_is_not_logged(
    server: ServerProcess, api: ApiClient, script: Callable[..., None]
) -> None:
    garbage = Raw([b"data: {" + ANSWERED.encode() + b"\n\n"])
    script(Reply(ANSWERED), Fail(400, {"error": {"message": f"I refuse {QUESTION}"}}), garbage)
    answers = [run_streamed(api) for _ in range(3)]
    assert QUESTION in answers[1].text  # the run has the reason
    key = "sk-of-a-client-0123456789"
    api.client.get("/assistants", headers={"authorization": f"Bearer {key}"})
    for answer in answers:
        assert lines(server, request_id=answer.headers["x-request-id"], logger="threadhold.requests")
    log = server.log.read_text()
    assert [word for word in (QUESTION, ANSWERED, key, "sk-of-the-server") if word in log] == []
    failed = [line for line in lines(server, status="failed") if line["error"] in ("refused", "garbage")]
    assert {line["level"] for line in failed} == {"warning"}


def test_a_path_cannot_forge_a_log_line(server: ServerProcess, api: ApiClient) -> None:
    answer = api.client.get('/no%0A{"level": "error", "message": "forged"}%1b[31m')
    (line,) = lines(server, request_id=answer.headers["x-request-id"])
    assert line["route"] == "none"
    assert "\x1b" not in server.log.read_text()
    assert [line for line in server.log.read_text().splitlines() if line.startswith('{"level"')] == []


def test_a_client_that_leaves_is_logged(server: ServerProcess, api: ApiClient, script: Callable[..., None]) -> None:
    script(Reply("slow " * 50, delay_s=0.02))
    body = {"assistant_id": api.assistant(), "stream": True}
    with api.client.stream("POST", f"/threads/{api.thread('x')}/runs", json=body) as answer:
        next(answer.iter_raw())
    (line,) = lines(server, request_id=answer.headers["x-request-id"], logger="threadhold.requests")
    assert line["left"] is True
    (run,) = lines(server, request_id=answer.headers["x-request-id"], logger="threadhold.runs")
    assert run["status"] == "completed"  # the run continues without the client


def test_successful_probes_are_not_logged(server: ServerProcess) -> None:
    asked = [httpx2.get(f"{server.url}{path}").headers["x-request-id"] for path in ("/health", "/ready", "/v1/ready")]
    last = httpx2.get(f"{server.url}/v1/models").headers["x-request-id"]
    assert lines(server, request_id=last)
    assert [line for line in lines(server, logger="threadhold.requests") if line["request_id"] in asked] == []


@pytest.mark.parametrize("content", ["true", "false"])
def test_content_is_logged_on_request(upstream: ScriptedUpstream, tmp_path: Path, content: str) -> None:
    settings = {"MODEL_URL": upstream.url, "LOG_CONTENT": content, "LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json"}
    with ServerProcess(tmp_path, **settings) as server, httpx2.Client(base_url=f"{server.url}/v1") as client:
        run_streamed(ApiClient(client))
        assert lines(server, logger="threadhold.runs", status="completed")
        upstream.script(Fail(400, {"error": {"message": QUOTED}}))
        run_streamed(ApiClient(client), "Hello")
        assert lines(server, logger="threadhold.runs", status="failed")
        said = server.log.read_text()
        assert (QUESTION in said) is (QUOTED in said) is (content == "true")
