"""Bodies in transit share one limit, whatever their number. Others are served meanwhile, and nothing stays behind."""

import contextlib
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest

from tests.api.conftest import wait_loaded
from tests.process import ServerProcess, resident_mb
from tests.upstream import ScriptedUpstream

SIZE = 10 * 1024 * 1024


@pytest.fixture(scope="module")
def shared(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"API_KEYS": "ann=key-ann,bob=key-bob", "MODEL_URL": upstream.url}
    with ServerProcess(tmp_path_factory.mktemp("shared"), **settings) as process:
        yield wait_loaded(process)


def send_up_to(server: ServerProcess, stack: ExitStack, path: str) -> socket.socket:
    """Send a body of 10 MB except its last byte."""
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer key-ann\r\n"
    with contextlib.suppress(ConnectionError):  # of a body that is refused
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        connection.sendall(b'"' + b"x" * (SIZE - 2))
    return connection


@pytest.mark.parametrize(
    "path",
    ["/v1/threads", *(pytest.param(path, marks=pytest.mark.soak) for path in ("/v1/chat/completions", "/chat/invoke"))],
)
def test_bodies_in_transit_share_one_limit(path: str, shared: ServerProcess) -> None:
    before = resident_mb(shared.pid)
    thread = {"messages": [{"role": "user", "content": "x" * 50_000}]}
    with ExitStack() as stack, httpx2.Client(base_url=shared.url, timeout=20) as client:
        waiting = [send_up_to(shared, stack, path) for _ in range(16)]
        refused = []
        while answered := select.select(waiting, [], [], 0.5)[0]:
            waiting = [connection for connection in waiting if connection not in answered]
            for connection in answered:
                with contextlib.suppress(ConnectionError):
                    refused.append(connection.recv(65536))
        assert 2 <= len(refused) <= 5
        assert all(answer.startswith(b"HTTP/1.1 503") for answer in refused)
        assert all(b"retry-after: 5" in answer.lower() for answer in refused)
        assert resident_mb(shared.pid) < before + 400
        keys = {name: {"authorization": f"Bearer key-{name}"} for name in ("ann", "bob")}
        assert client.post("/v1/threads", json=thread, headers=keys["bob"]).status_code == 200
        assert client.post("/v1/threads", json={}, headers=keys["ann"]).status_code == 200
    with httpx2.Client(base_url=shared.url, timeout=20) as client:
        for _ in range(20):  # the counted bytes are released
            complete = {"metadata": {"a": "x" * (SIZE - 100)}}
            assert client.post("/v1/threads", json=complete, headers=keys["ann"]).status_code == 400


@pytest.fixture(scope="module")
def large(shared: ServerProcess) -> str:
    """The path of an assistant of 9 MB that belongs to ann."""
    function = {"name": "f", "description": "x" * 9_000_000}
    body = {"model": "m", "tools": [{"type": "function", "function": function}]}
    with httpx2.Client(base_url=shared.url, timeout=20, headers={"authorization": "Bearer key-ann"}) as client:
        return f"/v1/assistants/{client.post('/v1/assistants', json=body).json()['id']}"


def ask(server: ServerProcess, stack: ExitStack, request: str, body: bytes = b"") -> socket.socket:
    """Send a request without reading its answer."""
    connection = stack.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", server.port))
    head = (
        f"{request} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer key-ann\r\nContent-Type: application/json\r\n"
    )
    connection.sendall(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("GET", b""),
        pytest.param("POST", b'{"name":"a"}', marks=pytest.mark.soak),
        pytest.param("LIST", b"", marks=pytest.mark.soak),
    ],
)
def test_unread_answers_share_one_limit(method: str, body: bytes, large: str, shared: ServerProcess) -> None:
    before = resident_mb(shared.pid)
    request = "GET /v1/assistants?limit=100" if method == "LIST" else f"{method} {large}"
    keys = {"authorization": "Bearer key-ann"}
    with ExitStack() as stack, httpx2.Client(base_url=shared.url, timeout=20) as client:
        connections = [ask(shared, stack, request, body) for _ in range(24)]
        first = [connection.recv(2000).partition(b"\r\n")[2].lower() for connection in connections]
        started = [b"retry-after" not in each for each in first]
        if method != "POST":  # a POST also has commits that wait for the disk
            assert resident_mb(shared.pid) < before + 350
        assert 5 < sum(started) < 20
        assert all((b"x-should-retry: false" in each) is (method == "POST") for each in first if b"retry-after" in each)
        assert client.post("/v1/threads", json={}, headers={"authorization": "Bearer key-bob"}).status_code == 200
        complete = sum(len(block) for block in iter(lambda: connections[started.index(True)].recv(65_536), b""))
        assert complete > 9_000_000 - 2000
    with httpx2.Client(base_url=shared.url, timeout=20) as client:
        for _ in range(20):  # the counted bytes are released
            assert len(client.get(large, headers=keys).content) > 9_000_000


LONG = b'{"type":"text","text":"' + b"x" * 250_000 + b'"}'
ATTACHED = b",".join(b'{"file_id":"file-%024d","tools":[{"type":"file_search"}]}' % number for number in range(500))
REFUSED = {
    "invalid JSON": ("messages", b'{"role":"user","content":"' + b"x" * 9_500_000),
    "a text that is too long": ("messages", b'{"role":"user","content":"' + b"x" * 9_500_000 + b'"}'),
    "texts that are too long": ("messages", b'{"role":"user","content":[' + b",".join([LONG] * 38) + b"]}"),
    "too many attachments": (
        "/threads",
        b'{"messages":[' + b",".join([b'{"role":"user","content":"x","attachments":[' + ATTACHED + b"]}"] * 20) + b"]}",
    ),
    "too much to embed": ("/embeddings", b'{"model":"m","input":[' + b",".join([b'"x"'] * 10_000) + b"]}"),
}
"""The path of a request, and a body that is refused: by the parser, by pydantic, or by one of our validators."""


EACH = [
    pytest.param(*refused, id=name, marks=() if name == "invalid JSON" else pytest.mark.soak)
    for name, refused in REFUSED.items()
]


@pytest.mark.parametrize(("path", "body"), EACH)
def test_refused_bodies_do_not_stay_in_memory(path: str, body: bytes, shared: ServerProcess) -> None:
    sent = 60
    with httpx2.Client(base_url=f"{shared.url}/v1", headers={"Authorization": "Bearer key-ann"}, timeout=30) as ann:
        url = f"/threads/{ann.post('/threads', json={}).json()['id']}/messages" if path == "messages" else path
        before = resident_mb(shared.pid)
        for _ in range(sent):
            answer = ann.post(url, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400
        assert resident_mb(shared.pid) < before + 200, f"{sent} bodies"
