"""Pages of other origins: their browsers' preflight requests, and the answers that they can read."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from api.cors import Cors
from tests.api.conftest import ApiClient, wait_loaded
from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream

ALLOWED = "http://allowed.example"
ALLOW = "access-control-allow-"
OTHERS = [
    "http://evil.example",
    "https://allowed.example",
    "http://allowed.example:8080",
    "http://allowed.example.evil.example",
    "null",
    "",
]


@pytest.fixture(scope="module")
def closed(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with keys that pages from disk and of one site can call."""
    folder: Path = tmp_path_factory.mktemp("closed")
    origins = "null, https://App.example/"
    with ServerProcess(folder, MODEL_URL=upstream.url, API_KEYS="sk-a", CORS_ORIGINS=origins) as process:
        yield wait_loaded(process)


def preflight(url: str, origin: str, *, method: str = "POST", **asked: str) -> httpx2.Response:
    """Send the preflight request of a browser: without a key, and with `request_headers="…"`."""
    headers = {f"access-control-{name.replace('_', '-')}": value for name, value in asked.items()}
    return httpx2.options(url, headers={"origin": origin, "access-control-request-method": method, **headers})


@pytest.mark.parametrize("path", ["/v1/threads", "/threads/thread_x/runs", "/v1/no/such/route", "/chat/stream", "/"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH", "PUT"])
def test_a_preflight_of_an_allowed_origin_succeeds(server: ServerProcess, path: str, method: str) -> None:
    names = "authorization,content-type,last-event-id,openai-beta,x-stainless-lang,x-stainless-retry-count"
    answer = preflight(server.url + path, ALLOWED, method=method, request_headers=names)
    assert answer.status_code == 200
    assert answer.headers[ALLOW + "origin"] == ALLOWED
    assert answer.headers[ALLOW + "headers"] == names
    assert method in answer.headers[ALLOW + "methods"]
    assert int(answer.headers["access-control-max-age"]) >= 600
    assert "Origin" in answer.headers["vary"]
    assert ALLOW + "private-network" not in answer.headers


def test_an_allowed_origin_can_call_a_private_network(server: ServerProcess) -> None:
    answer = preflight(f"{server.url}/v1/threads", ALLOWED, request_private_network="true")
    assert answer.status_code == 200
    assert answer.headers[ALLOW + "private-network"] == "true"
    assert "Access-Control-Request-Private-Network" in answer.headers["vary"]


@pytest.mark.parametrize("origin", OTHERS)
def test_other_origins_cannot_call(server: ServerProcess, origin: str) -> None:
    for asked in ({}, {"request_private_network": "true"}):
        answer = preflight(f"{server.url}/v1/threads", origin, **asked)
        assert answer.status_code == 400
        assert ALLOW + "origin" not in answer.headers
        assert ALLOW + "private-network" not in answer.headers
    answer = httpx2.get(f"{server.url}/health", headers={"origin": origin})
    assert ALLOW + "origin" not in answer.headers
    assert "Origin" in answer.headers["vary"]


def test_without_a_setting_no_origin_can_call(keyed: ServerProcess) -> None:
    answer = preflight(f"{keyed.url}/v1/threads", ALLOWED, request_private_network="true")
    assert [name for name in answer.headers if name.startswith("access-control")] == []


@pytest.mark.parametrize("origin", ["null", "https://app.example"])
def test_a_preflight_needs_no_key(closed: ServerProcess, origin: str) -> None:
    answer = preflight(f"{closed.url}/v1/threads", origin, request_private_network="true")
    assert (answer.status_code, answer.headers[ALLOW + "origin"]) == (200, origin)
    assert answer.headers[ALLOW + "private-network"] == "true"
    answer = httpx2.post(f"{closed.url}/v1/threads", headers={"origin": origin, "authorization": "Bearer sk-a"})
    assert (answer.status_code, answer.headers[ALLOW + "origin"]) == (200, origin)


def test_a_page_can_read_that_its_key_is_wrong(closed: ServerProcess) -> None:
    for key in ({}, {"authorization": "Bearer sk-b"}):
        answer = httpx2.post(f"{closed.url}/v1/threads", headers={"origin": "null", **key})
        assert (answer.status_code, answer.headers[ALLOW + "origin"]) == (401, "null")


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/v1/nothing", {}, 404),
        ("PUT", "/v1/threads", {"json": {}}, 405),
        ("POST", "/v1/threads", {"json": {"colour": 1}}, 400),
        ("POST", "/v1/threads", {"json": {"metadata": {"k": "x" * 300_000}}}, 413),
        ("POST", "/v1/threads", {"content": b"x", "headers": {"content-type": "text/plain"}}, 415),
        ("GET", "/v1/health", {"headers": {"host": "evil.example"}}, 403),
        ("POST", "/chat/invoke", {"json": {"input": 1}}, 400),
    ],
    ids=["unknown", "method", "invalid", "large", "type", "host", "langserve"],
)
def test_a_page_can_read_every_error(
    server: ServerProcess, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    headers = {"origin": ALLOWED, **options.pop("headers", {})}
    answer = httpx2.request(method, server.url + path, headers=headers, **options)
    assert (answer.status_code, answer.headers[ALLOW + "origin"]) == (status, ALLOWED)


def test_a_page_can_read_the_headers_of_answers_and_streams(server: ServerProcess, api: ApiClient) -> None:
    run = api.run()
    for path in ("/v1/models", f"/v1/threads/{run['thread_id']}/runs/{run['id']}/events"):
        answer = httpx2.get(server.url + path, headers={"origin": ALLOWED})
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"*", "x-request-id", "retry-after", "openai-poll-after-ms", "content-disposition"} <= set(exposed)
        assert answer.headers["x-request-id"]


async def test_every_origin_can_call_where_all_are_allowed() -> None:
    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("a preflight does not reach the app")

    cors = Cors(broken, origins=["*"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await cors({**scope, "app": SimpleNamespace(state=SimpleNamespace())}, receive, send)  # as Starlette does

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        asked = {"access-control-request-method": "POST", "access-control-request-private-network": "true"}
        answer = await client.options("http://localhost/", headers={"origin": "http://any.example", **asked})
    assert (answer.status_code, answer.headers[ALLOW + "origin"]) == (200, "*")
    assert answer.headers[ALLOW + "private-network"] == "true"
