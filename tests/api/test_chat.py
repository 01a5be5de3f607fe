"""Chat completions that are passed through, and the list of models."""

from collections.abc import Callable

import httpx2
import pytest

from telemetry.version import installed_version
from tests.process import ServerProcess
from tests.upstream import Fail, Hang, Reply, ScriptedUpstream

HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": -1}


def test_a_completion_passes_with_model_name_and_key_replaced(
    client: httpx2.Client, upstream: ScriptedUpstream, script: Callable[..., None]
) -> None:
    script(Reply("Hello"))
    answer = client.post("/chat/completions", json=HELLO, headers={"authorization": "Bearer of-the-client"})
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    sent = upstream.requests[-1]
    assert sent.body["model"] == "test-model"
    assert "max_tokens" not in sent.body
    assert "of-the-client" not in str(sent.headers)
    assert "sk-of-the-server" in str(sent.headers)


def test_a_stream_passes_token_by_token(client: httpx2.Client, script: Callable[..., None]) -> None:
    script(Reply("one two three", delay_s=0.05))
    with client.stream("POST", "/chat/completions", json={**HELLO, "stream": True}) as answer:
        blocks = list(answer.iter_raw())
    assert len(blocks) > 2
    assert b"[DONE]" in b"".join(blocks)


def test_a_client_that_leaves_stops_the_upstream(
    client: httpx2.Client, upstream: ScriptedUpstream, script: Callable[..., None]
) -> None:
    script(Reply("one two three", pause_after=2))
    closed = upstream.closed_early
    with client.stream("POST", "/chat/completions", json={**HELLO, "stream": True}) as answer:
        next(answer.iter_raw())
    upstream.wait_for(lambda up: up.closed_early == closed + 1, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_answer_stops_the_upstream(
    client: httpx2.Client, upstream: ScriptedUpstream, script: Callable[..., None], stream: bool
) -> None:
    script(Hang())
    closed = upstream.closed_early
    with pytest.raises(httpx2.TimeoutException):
        client.post("/chat/completions", json={**HELLO, "stream": stream}, timeout=0.3)
    upstream.wait_for(lambda up: up.closed_early == closed + 1, 2)


def test_an_upstream_error_keeps_its_status(client: httpx2.Client, script: Callable[..., None]) -> None:
    script(Fail(418, {"error": {"message": "teapot"}}))
    answer = client.post("/chat/completions", json=HELLO)
    assert (answer.status_code, answer.json()["error"]["message"]) == (418, "teapot")


def test_models_are_those_of_the_upstream_and_aliases(client: httpx2.Client) -> None:
    listed = client.get("/models").json()
    assert listed["object"] == "list"
    assert {one["id"] for one in listed["data"]} == {"test-model", "gpt-4o"}
    assert all(set(one) >= {"id", "object", "created", "owned_by"} for one in listed["data"])
    assert client.get("/models/test-model").json()["id"] == "test-model"
    assert client.get("/models/none").status_code == 404


def test_health_and_readiness_are_ok(server: ServerProcess) -> None:
    assert httpx2.get(f"{server.url}/health").json() == {"status": "ok", "version": installed_version()}
    assert f'threadhold_info{{version="{installed_version()}"}} 1' in httpx2.get(f"{server.url}/metrics").text
    assert httpx2.head(f"{server.url}/health").status_code == 200  # some probes send HEAD
    ready = httpx2.get(f"{server.url}/ready")
    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "ready", "checks": {"store": "ok", "disk": "ok", "upstream": "ok"}},
    )
