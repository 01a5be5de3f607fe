"""Azure's paths and keys are accepted, and their requests are logged and counted as those of the equivalent routes."""

import json
import time
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

from tests.api.conftest import ApiClient, wait_loaded
from tests.process import ServerProcess
from tests.upstream import Raw, ScriptedUpstream

VERSION = "api-version=2024-05-01-preview"
USER = {"role": "user", "content": "Hi"}


def azure(server: ServerProcess, prefix: str = "/openai", key: str = "any") -> ApiClient:
    options = {"params": {"api-version": "2024-05-01-preview"}, "headers": {"api-key": key}}
    return ApiClient(httpx2.Client(base_url=f"{server.url}{prefix}", timeout=10, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "prefix", ["/openai", "/openai/v1", "//openai", "/openai/deployments/any", "/openai/v1/deployments/any"]
)
def test_azure_s_addresses_serve_the_complete_api(server: ServerProcess, prefix: str) -> None:
    api = azure(server, prefix)
    with api.client:
        run = api.wait_ended(api.run())
        assert run["status"] == "completed"
        assert api.get(f"/threads/{run['thread_id']}/messages")["data"][0]["run_id"] == run["id"]
        assert api.get("/models")["object"] == "list"
        file = api.file()
        assert api.get(f"/files/{file}")["id"] == file
        store = api.post("/vector_stores", {"file_ids": [file]})
        assert api.wait_processed(f"/vector_stores/{store['id']}")["file_counts"]["completed"] == 1
        assert api.delete(f"/threads/{run['thread_id']}")["deleted"]


def test_a_stream_works_on_azure_s_address(server: ServerProcess) -> None:
    with azure(server).client as client:
        api = ApiClient(client)
        asked = {"assistant_id": api.assistant(), "stream": True, "thread": {"messages": [USER]}}
        text = client.post("/threads/runs", json=asked).text
    assert "thread.run.completed" in text
    assert text.endswith("event: done\ndata: [DONE]\n\n")


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        ("gpt-4o-mini", {"messages": [USER]}, "gpt-4o-mini"),
        ("gpt-4o-mini", {"messages": [USER], "model": "other"}, "gpt-4o-mini"),
        ("meta/llama", {"messages": [USER]}, "meta/llama"),
        ("meta%2Fllama%203", {"messages": [USER]}, "meta/llama 3"),
        ("mod%C3%A8le", {"messages": [USER], "stream": True}, "modèle"),
        ("gpt-4o", {"messages": [USER]}, "test-model"),  # by MODEL_ALIASES
    ],
)
def test_the_deployment_is_the_model(
    server: ServerProcess, upstream: ScriptedUpstream, path: str, body: dict[str, object], model: str
) -> None:
    url = f"{server.url}/openai/deployments/{path}/chat/completions?{VERSION}"
    answer = httpx2.post(url, json=body, headers={"api-key": "any"})
    assert answer.status_code == 200, answer.text
    assert upstream.requests[-1].body["model"] == model
    assert "api-key" not in {name.lower() for name in upstream.requests[-1].headers}


@pytest.mark.parametrize("path", ["audio/transcriptions", "audio/translations", "images/edits", "images/variations"])
@pytest.mark.parametrize("fields", [{}, {"model": "other"}], ids=["no model", "another model"])
@pytest.mark.parametrize(("name", "model"), [("my/whisper", "my/whisper"), ("gpt-4o", "test-model")])
def test_the_deployment_is_the_model_of_a_form(
    server: ServerProcess, upstream: ScriptedUpstream, path: str, fields: dict[str, str], name: str, model: str
) -> None:
    upstream.raw[f"/v1/{path}"] = Raw([b"{}"], content_type="application/json")
    url = f"{server.url}/openai/deployments/{quote(name, safe='')}/{path}?{VERSION}"
    answer = httpx2.post(url, files={"file": ("a", b"bytes")}, data=fields, headers={"api-key": "any"})
    assert answer.status_code == 200, answer.text
    sent = upstream.raw_seen[-1]
    assert sent.body.count(b'name="model"') == 1
    assert f'name="model"\r\n\r\n{model}\r\n'.encode() in sent.body
    assert b"bytes" in sent.body


def test_stored_objects_have_no_deployment(server: ServerProcess) -> None:
    with azure(server, "/openai/deployments/any").client as client:
        assert ApiClient(client).post("/threads", {"messages": [USER]})["object"] == "thread"
        assert ApiClient(client).post("/assistants", {"model": "mine"})["model"] == "mine"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"api-key": "key-ann"}, 200),
        ({"API-Key": "key-ann"}, 200),
        ({"authorization": "Bearer key-ann"}, 200),
        ({"authorization": "Bearer token-of-azure-ad", "api-key": "key-ann"}, 200),
        ({"authorization": "Bearer key-ann", "api-key": "wrong"}, 200),
        ({"authorization": "Basic key-ann"}, 401),
        ({"api-key": "wrong"}, 401),
        ({"api-key": ""}, 401),
        ({}, 401),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/openai/assistants", "/openai/v1/assistants", "/v1/assistants"])
def test_a_key_is_accepted_in_either_header(
    keyed: ServerProcess, path: str, headers: dict[str, str], status: int
) -> None:
    answer = httpx2.get(f"{keyed.url}{path}?{VERSION}", headers=headers)
    assert answer.status_code == status
    assert status == 200 or answer.json()["error"]["code"] == "invalid_api_key"


def test_a_bearer_key_names_the_owner_if_two_keys_are_sent(keyed: ServerProcess) -> None:
    both = {"authorization": "Bearer key-ann", "api-key": "key-bob"}
    thread = httpx2.post(f"{keyed.url}/openai/threads", json={}, headers=both).json()["id"]
    for key, status in (("key-ann", 200), ("key-bob", 404)):
        assert httpx2.get(f"{keyed.url}/v1/threads/{thread}", headers={"api-key": key}).status_code == status


@pytest.mark.parametrize(
    "path", ["/openai", "/openai/", "/openai/v1", "/openai/docs", "/openai/deployments/x", "/openaix"]
)
def test_other_addresses_are_a_404(server: ServerProcess, path: str) -> None:
    answer = httpx2.get(server.url + path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


@pytest.mark.parametrize(
    ("query", "beta", "kind"),
    [
        ("api-version=2024-02-15-preview", None, "retrieval"),
        ("x=y&api-version=2024-03-01-preview", None, "retrieval"),
        (VERSION, None, "file_search"),
        ("api-version=preview", None, "file_search"),
        ("", None, "file_search"),
        ("api-version=2024-02-15-preview", "assistants=v2", "file_search"),
    ],
)
def test_an_api_version_selects_the_api_s_version(
    api: ApiClient, server: ServerProcess, query: str, beta: str | None, kind: str
) -> None:
    made = api.assistant(tools=[{"type": "file_search"}])
    headers = {} if beta is None else {"openai-beta": beta}
    answer = httpx2.get(f"{server.url}/openai/assistants/{made}?{query}", headers=headers)
    assert answer.json()["tools"] == [{"type": kind}]


def test_an_api_version_is_ignored_on_other_routes(client: httpx2.Client, api: ApiClient) -> None:
    run = api.wait_ended(api.run())
    thread = f"/threads/{run['thread_id']}"
    paths = [
        "/assistants",
        thread,
        f"{thread}/messages",
        f"{thread}/runs/{run['id']}/steps",
        "/files",
        "/vector_stores",
    ]
    for path in [*paths, "/models", "/health"]:
        assert client.get(path, params={"api-version": "2024-05-01-preview"}).status_code == 200, path


def _logged(process: ServerProcess) -> set[tuple[str, str, str]]:
    """Return path, route and owner of each request in the server's log."""
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if '"route"' in line]
    return {(line["path"], line["route"], line["owner"]) for line in lines}


def test_azure_s_requests_are_logged_and_counted_as_ours(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with ServerProcess(
        tmp_path, MODEL_URL=upstream.url, API_KEYS="ann=secret-of-ann", METRICS_KEY="watching"
    ) as process:
        wait_loaded(process)
        with azure(process, key="secret-of-ann").client as client:
            api = ApiClient(client)
            api.thread()
            api.client.post("/deployments/m/chat/completions", json={"messages": [USER]})
            api.client.post("/threads", json={}, headers={"api-key": "secret-of-nobody"})
        metrics = httpx2.get(f"{process.url}/metrics", headers={"api-key": "watching"}).text
        wanted = {("/v1/threads", "/threads", "ann"), ("/v1/chat/completions", "/chat/completions", "ann")}
        end = time.monotonic() + 60  # lines are written a moment after they are logged
        while not wanted <= _logged(process) and time.monotonic() < end:
            time.sleep(0.02)
        log = process.log.read_text()
        assert wanted <= _logged(process)
    for route in ("/threads", "/chat/completions"):
        assert f'threadhold_requests_total{{method="POST",route="{route}",status="200"}} 1.0' in metrics
    assert "/openai" not in metrics
    assert "secret-of" not in log
    assert "watching" not in log
