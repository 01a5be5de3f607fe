"""Access control: hosts, origins, keys and owners."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.api.conftest import ApiClient
from tests.process import ServerProcess


@contextmanager
def as_owner(server: ServerProcess, key: str) -> Iterator[ApiClient]:
    headers = {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=f"{server.url}/v1", headers=headers, timeout=10) as client:
        yield ApiClient(client)


def test_open_mode_accepts_any_key(client: httpx2.Client) -> None:
    for key in ("non nécessaire".encode(), b"EMPTY"):
        answer = client.get("/assistants", headers={b"authorization": b"Bearer " + key})
        assert answer.status_code == 200


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic a2V5LWFubg=="}])
def test_with_keys_a_missing_or_wrong_key_is_a_401(keyed: ServerProcess, headers: dict[str, str]) -> None:
    answer = httpx2.get(f"{keyed.url}/v1/assistants", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_options_need_a_key_too(keyed: ServerProcess) -> None:
    assert httpx2.options(f"{keyed.url}/v1/threads/t/messages/m").status_code == 401


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/docs", "/openapi.json", "/v1/health"])
def test_public_paths_need_no_key(keyed: ServerProcess, path: str) -> None:
    assert httpx2.get(f"{keyed.url}{path}").status_code == 200


def test_an_owner_cannot_see_another_owner_s_objects(keyed: ServerProcess) -> None:
    with as_owner(keyed, "key-ann") as ann, as_owner(keyed, "key-bob") as bob:
        cross_every_route(ann, bob)


def cross_every_route(ann: ApiClient, bob: ApiClient) -> None:
    run = ann.wait_ended(ann.run())
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


def test_a_key_without_an_owner_belongs_to_the_default_owner(keyed: ServerProcess) -> None:
    with as_owner(keyed, "plain-key") as plain:
        plain.get(f"/threads/{plain.thread()}")


@pytest.mark.parametrize(("host", "status"), [("evil.example", 403), ("named.example", 200), ("localhost", 200)])
def test_an_unknown_host_is_refused(server: ServerProcess, host: str, status: int) -> None:
    assert httpx2.get(f"{server.url}/health", headers={"host": f"{host}:{server.port}"}).status_code == status


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:1@evil.example",
        "localhost@evil.example",
        "localhost:@evil.example",
        "evil.example@localhost",
        "localhost:evil",
        "localhost:80:80",
        "localhost/evil.example",
        "localhost#@evil.example",
        "localhost\\evil.example",
        "localhost?.evil.example",
        "localhost, evil.example",
        "localhost evil.example",
        "[::1]evil.example",
        "[::1]@evil.example:80",
        "[::1",
    ],
)
def test_a_host_with_more_than_name_and_port_is_refused(server: ServerProcess, host: str) -> None:
    answer = httpx2.get(f"{server.url}/health", headers={"host": host})
    assert answer.status_code == 403
    assert "Host" in answer.json()["error"]["message"]


def test_a_request_with_two_hosts_is_refused(server: ServerProcess) -> None:
    for second in (b"evil.example", b"localhost"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: " + second + b"\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1", "localhost:", "LOCALHOST:3000", "[::1]", "[::1]:3000", "named.example:80"]
)
def test_a_host_is_a_name_or_an_address_with_optional_port(server: ServerProcess, host: str) -> None:
    assert httpx2.get(f"{server.url}/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("null", 403), ("http://[", 403), ("http://allowed.example", 200)],
)
def test_a_page_of_another_origin_cannot_post(server: ServerProcess, origin: str, status: int) -> None:
    answer = httpx2.post(f"{server.url}/v1/threads", headers={"origin": origin})
    assert answer.status_code == status


def test_the_built_in_page_can_post(server: ServerProcess) -> None:
    assert httpx2.post(f"{server.url}/v1/threads", headers={"origin": server.url}).status_code == 200


def test_the_documentation_works_offline(server: ServerProcess) -> None:
    page = httpx2.get(f"{server.url}/docs").text
    assert "https://" not in page
    assert "http://" not in page
    for source in {part.split('"')[0] for part in page.split('src="')[1:]}:
        assert httpx2.get(server.url + source).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/oauth2-redirect", "/chat/playground/", "/assistant/playground/"])
def test_no_page_can_be_framed(server: ServerProcess, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer = httpx2.request(method, f"{server.url}{path}")
        if method == "HEAD" and answer.status_code == 405:
            continue  # that answer is not a page
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "path",
    ["/redoc", "/docs/none", "/chat/playground/none", "/assistant/playground/../none", "/none.html", "/v1", "/v1/none"],
)
def test_other_answers_are_not_html_or_cannot_be_framed(server: ServerProcess, path: str) -> None:
    answer = httpx2.get(f"{server.url}{path}", headers={"accept": "text/html"})
    if answer.headers.get("content-type", "").startswith("text/html"):
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
    else:
        assert answer.status_code == 404


def test_the_playgrounds_load_their_script(server: ServerProcess) -> None:
    for name in ("chat", "assistant"):
        page = httpx2.get(f"{server.url}/{name}/playground/")
        assert page.headers["content-security-policy"] == "frame-ancestors 'none'"  # nothing else is restricted
        source = page.text.partition('src="')[2].partition('"')[0]
        assert httpx2.get(f"{server.url}{source}").status_code == 200


REFUSED = {
    # name: method and path, the key, the status
    "open": ("POST /health", "", 405),
    "open v1": ("POST /v1/ready", "", 405),
    "page": ("POST /", "", 405),
    "documents": ("POST /docs", "", 405),
    "openapi": ("PUT /openapi.json", "", 405),
    "documents' files": ("POST /static-offline-docs/x.js", "", 405),
    "documents' folder": ("POST /docs/nothing", "", 404),
    "no key": ("POST /v1/threads", "", 401),
    "wrong key": ("POST /v1/threads", "wrong", 401),
    "no key and no path": ("POST /v1/nothing", "", 401),
    "no path": ("POST /v1/nothing", "key-ann", 404),
    "no such method": ("PUT /v1/threads", "key-ann", 405),
    "get": ("GET /v1/health", "", 200),
    "delete what is no object": ("DELETE /v1/threads", "key-ann", 405),
    "azure": ("POST /openai/threads", "", 401),
    "azure's deployment": ("POST /openai/deployments/x/nothing", "key-ann", 404),
    "metrics": ("POST /metrics", "", 403),
    "langserve": ("POST /chat/invoke", "", 401),
    "langserve's unknown": ("POST /chat/nothing", "key-ann", 404),
    "playground": ("POST /chat/playground/x", "", 401),
}
FRAMES = {
    "length": b"Content-Type: application/json\r\nContent-Length: 9000000\r\n",
    "chunks": b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
    "form": b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000000\r\n",
    "expects": b"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n",
}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("refused", REFUSED)
def test_a_refused_head_is_answered_before_its_body(keyed: ServerProcess, refused: str, frame: str) -> None:
    asked, key, status = REFUSED[refused]
    head = f"{asked} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n".encode()
    with socket.create_connection(("127.0.0.1", keyed.port), timeout=5) as connection:
        connection.sendall(head + FRAMES[frame] + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 %d " % status)


def test_a_refused_body_is_not_kept_in_memory(keyed: ServerProcess) -> None:
    def memory() -> int:
        line = next(line for line in Path(f"/proc/{keyed.pid}/status").read_text().splitlines() if "VmRSS" in line)
        return int(line.split()[1]) // 1024

    if not Path("/proc/self/status").exists():
        pytest.skip("reads /proc, which this system lacks")
    head = b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    body = b"[" * 8_000_000
    before = memory()
    with ExitStack() as stack:
        for _ in range(10):
            made = stack.enter_context(socket.create_connection(("127.0.0.1", keyed.port), timeout=10))
            made.sendall(head % (len(body) + 1) + body)
        assert memory() - before < 30


def test_a_connection_continues_after_a_refused_body(keyed: ServerProcess) -> None:
    with httpx2.Client(base_url=keyed.url, timeout=10) as client:
        for path, status in (("/v1/threads", 401), ("/health", 405), ("/v1/nothing", 401)):
            assert client.post(path, content=b"x" * 3_000_000).status_code == status
            assert client.get("/health").status_code == 200
