"""The gate: hosts, origins, keys, owners."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.api.conftest import World
from tests.process import ServerProcess


@contextmanager
def as_owner(server: ServerProcess, key: str) -> Iterator[World]:
    headers = {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=f"{server.url}/v1", headers=headers, timeout=10) as client:
        yield World(client)


def test_in_open_mode_any_key_is_fine(client: httpx2.Client) -> None:
    for key in ("non nécessaire".encode(), b"EMPTY"):
        answer = client.get("/assistants", headers={b"authorization": b"Bearer " + key})
        assert answer.status_code == 200


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic a2V5LWFubg=="}])
def test_with_keys_a_missing_or_wrong_one_is_a_401(keyed: ServerProcess, headers: dict[str, str]) -> None:
    answer = httpx2.get(f"{keyed.url}/v1/assistants", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/docs", "/openapi.json", "/v1/health"])
def test_public_paths_need_no_key(keyed: ServerProcess, path: str) -> None:
    assert httpx2.get(f"{keyed.url}{path}").status_code == 200


def test_an_owner_sees_nothing_of_another(keyed: ServerProcess) -> None:
    with as_owner(keyed, "key-ann") as ann, as_owner(keyed, "key-bob") as bob:
        cross_every_route(ann, bob)


def cross_every_route(ann: World, bob: World) -> None:
    run = ann.ended(ann.run())
    thread, assistant = run["thread_id"], run["assistant_id"]
    message = ann.get(f"/threads/{thread}/messages")["data"][0]["id"]
    step = ann.get(f"/threads/{thread}/runs/{run['id']}/steps")["data"][0]["id"]
    mine = bob.thread("x")
    paths = [
        f"/assistants/{assistant}", f"/threads/{thread}", f"/threads/{thread}/messages",
        f"/threads/{thread}/messages/{message}", f"/threads/{mine}/messages/{message}", f"/threads/{thread}/runs",
        f"/threads/{thread}/runs/{run['id']}", f"/threads/{mine}/runs/{run['id']}",
        f"/threads/{thread}/runs/{run['id']}/steps", f"/threads/{thread}/runs/{run['id']}/steps/{step}",
        f"/threads/{mine}/runs/{run['id']}/events", f"/threads/{thread}/runs/{run['id']}/events",
    ]  # fmt: skip
    for path in paths:
        assert bob.client.get(path).status_code == 404, path
    for path in (f"/assistants/{assistant}", f"/threads/{thread}", f"/threads/{thread}/messages/{message}"):
        assert bob.client.delete(path).status_code == 404
        assert bob.client.post(path, json={"metadata": {"a": "b"}}).status_code == 404
    for path, body in (
        (f"/threads/{thread}/messages", {"role": "user", "content": "x"}),
        (f"/threads/{thread}/runs", {"assistant_id": bob.assistant()}),
        (f"/threads/{mine}/runs", {"assistant_id": assistant}),
        (f"/threads/{thread}/runs/{run['id']}/cancel", None),
        (f"/threads/{thread}/runs/{run['id']}/submit_tool_outputs", {"tool_outputs": []}),
    ):
        bob.post(path, body, 404)
    assert thread not in str(bob.get("/threads"))
    assert bob.client.get("/assistants", params={"after": assistant}).status_code == 400
    assert ann.get(f"/threads/{thread}/runs/{run['id']}") == run


def test_a_key_without_an_owner_belongs_to_the_default_one(keyed: ServerProcess) -> None:
    with as_owner(keyed, "plain-key") as plain:
        plain.get(f"/threads/{plain.thread()}")


@pytest.mark.parametrize(("host", "status"), [("evil.example", 403), ("named.example", 200), ("localhost", 200)])
def test_a_host_that_is_not_ours_is_refused(server: ServerProcess, host: str, status: int) -> None:
    assert httpx2.get(f"{server.url}/health", headers={"host": f"{host}:{server.port}"}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("null", 403), ("http://[", 403), ("http://allowed.example", 200)],
)
def test_a_page_on_another_origin_cannot_post(server: ServerProcess, origin: str, status: int) -> None:
    answer = httpx2.post(f"{server.url}/v1/threads", headers={"origin": origin})
    assert answer.status_code == status


def test_our_own_page_can_post(server: ServerProcess) -> None:
    assert httpx2.post(f"{server.url}/v1/threads", headers={"origin": server.url}).status_code == 200


def test_the_documents_work_offline(server: ServerProcess) -> None:
    page = httpx2.get(f"{server.url}/docs").text
    assert "https://" not in page
    assert "http://" not in page
    for source in {part.split('"')[0] for part in page.split('src="')[1:]}:
        assert httpx2.get(server.url + source).status_code == 200
