"""More clients than MAX_CONNECTIONS: existing connections stay, further ones are refused, and probes still work."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import uvicorn

from api.access import AccessControl
from api.connection_limit import ConnectionLimit
from api.key_ring import KeyRing
from api.request_starts import Group, request_scheduler
from api.scopes import RouteScopes
from tests.process import ServerProcess
from tests.upstream import Hang, ScriptedUpstream
from wire.errors import TooManyRequests

NOWHERE = "http://127.0.0.1:9/v1"
ASK = b"GET /%b HTTP/1.1\r\nhost: localhost\r\n\r\n"


@contextmanager
def idle_connections(port: int, size: int) -> Iterator[list[socket.socket]]:
    """Open idle connections."""
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)) for _ in range(size)]
        time.sleep(0.2)  # until they are accepted
        yield made


def ended(connection: socket.socket) -> bool:
    """Return whether the server has disconnected."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_connections_beyond_the_limit_are_refused_and_others_stay(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, MODEL_URL=NOWHERE, MAX_CONNECTIONS="4") as server,
        httpx2.Client(base_url=server.url, timeout=10) as inside,
    ):
        assert inside.post("/v1/threads", json={}).status_code == 200
        with idle_connections(server.port, 3) as held:
            for each in held:
                each.sendall(waiting_request("bodies", "", ""))
            assert inside.post("/v1/threads", json={}).status_code == 200
            long = {"metadata": {"a": "x" * 400_000}}  # a body that arrives in several pieces
            for body, headers in (({}, {}), (long, {}), (long, {"Connection": "Upgrade", "Upgrade": "h2c"})):
                refused = httpx2.post(f"{server.url}/v1/threads", json=body, headers=headers, timeout=10)
                assert refused.status_code == 503
                assert refused.headers["retry-after"] == "5"
                assert refused.headers["connection"] == "close"
                assert refused.headers["x-request-id"].startswith("req_")
                error = refused.json()["error"]
                assert error.keys() == {"message", "type", "param", "code"}
                assert "4 connections" in error["message"]
                assert "MAX_CONNECTIONS" in error["message"]
            assert httpx2.get(f"{server.url}/health", timeout=10).status_code == 200
            assert httpx2.get(f"{server.url}/v1/ready?x=y", timeout=10).json()["checks"]["store"] == "ok"
            metrics = httpx2.get(f"{server.url}/metrics", timeout=10).text
            assert "threadhold_connections_open 5.0" in metrics
            assert "threadhold_connections_refused_total 3.0" in metrics
            assert inside.post("/v1/threads", json={}).status_code == 200
        time.sleep(0.2)  # until the server has noticed that they closed
        assert httpx2.post(f"{server.url}/v1/threads", json={}, timeout=10).status_code == 200
        assert server.log.read_text().count("as many as MAX_CONNECTIONS allows; refused") == 1


async def empty(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer without a body."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("kind", ["without a key", "one owner"])
def test_reused_connections_do_not_exclude_other_owners(tmp_path: Path, kind: str) -> None:
    key = "none" if kind == "without a key" else KEYS["ann"]
    request = f"GET /v1/threads?limit=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    api_keys = ",".join(f"{owner}={key}" for owner, key in KEYS.items())
    stop = threading.Event()

    def use(port: int) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(request)
                while connection.recv(65_536) and not stop.wait(1.5):
                    connection.sendall(request)

    bob = {"Authorization": f"Bearer {KEYS['bob']}"}
    with ServerProcess(tmp_path, MAX_CONNECTIONS="16", API_KEYS=api_keys) as server, ExitStack() as stack:
        for _ in range(2):  # both owners are known before the load starts
            for each in KEYS.values():
                httpx2.post(f"{server.url}/v1/threads", json={}, headers={"Authorization": f"Bearer {each}"})
        users = [threading.Thread(target=use, args=(server.port,)) for _ in range(20)]
        stack.callback(lambda: [user.join() for user in users])
        stack.callback(stop.set)
        for user in users:
            user.start()
        time.sleep(4)
        answers = []
        for _ in range(12):
            answers.append(httpx2.post(f"{server.url}/v1/threads", json={}, headers=bob).status_code)
            time.sleep(0.3)
        assert answers.count(200) >= 5  # without the rule: none


@asynccontextmanager
async def serving(limit: ConnectionLimit, app: Any = empty) -> AsyncIterator[int]:
    """Serve an app with a connection limit; yields the port."""
    config = uvicorn.Config(app, port=0, http=limit.connection, lifespan="off", log_config=None)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        serve = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = server.force_exit = True
        await serve


class Impatient(ConnectionLimit):
    IDLE_S = 0.5


class Patient(ConnectionLimit):
    BRIEFLY_IDLE_S = 60.0


async def test_a_new_connection_replaces_idle_connections_only() -> None:
    """Connections without a key that request `/health` from time to time do not exclude others."""
    goes_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            await goes_on.wait()
            await send({"type": "http.response.body", "body": b"half"})
        else:
            await empty(scope, receive, send)

    async with serving(Impatient(8), app) as port, asyncio.timeout(20), contextlib.AsyncExitStack() as stack:

        async def ask(path: bytes) -> tuple[bytes, asyncio.StreamReader]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(ASK % path)
            return (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1], reader

        _, slow = await ask(b"slow")
        assert await slow.readexactly(4) == b"half"
        assert [(await ask(b"health"))[0] for _ in range(7)] == [b"204"] * 7
        assert (await ask(b"v1/threads"))[0] == b"503"
        await asyncio.sleep(Impatient.IDLE_S + 0.1)
        assert [(await ask(b"v1/threads"))[0] for _ in range(7)] == [b"204"] * 7
        assert (await ask(b"v1/threads"))[0] == b"503"
        goes_on.set()
        assert await slow.readexactly(4) == b"half"


async def test_a_new_connection_replaces_one_that_has_its_answer() -> None:
    """A client that never sends the rest of a body, and does not close, does not exclude others."""
    limit = ConnectionLimit(8)
    async with serving(limit) as port, asyncio.timeout(20), contextlib.AsyncExitStack() as stack:

        async def ask(request: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(request)
            return (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]

        unfinished = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{"
        assert [await ask(unfinished) for _ in range(100)] == [b"204"] * 100
        assert [await ask(ASK % b"v1/threads") for _ in range(8)] == [b"204"] * 8
        assert len(limit.open_connections) <= 9
        assert limit.refused == 0


async def test_a_new_connection_replaces_one_that_sends_no_request() -> None:
    """Clients that connect faster than idle connections time out do not exclude others."""
    goes_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await goes_on.wait()
        await empty(scope, receive, send)

    limit = ConnectionLimit(8)
    async with serving(limit, app) as port, asyncio.timeout(20), contextlib.AsyncExitStack() as stack:
        made = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        for number, (_, writer) in enumerate(made):
            stack.callback(writer.close)
            writer.write(ASK % b"slow" if number < 5 else b"GET / HT")
        await asyncio.sleep(ConnectionLimit.BRIEFLY_IDLE_S + 0.2)
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(ASK % b"v1/threads")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
        assert [await reader.read() for reader, _ in made[5:]] == [b""] * 3
        goes_on.set()
        assert [(await reader.readexactly(12))[9:] for reader, _ in made[:5]] == [b"204"] * 5


POST = b"POST /v1/threads HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "request_", [b"hello\r\n\r\n", ASK % b"v1/threads", POST], ids=["invalid HTTP", "too many GETs", "too many POSTs"]
)
async def test_a_new_connection_replaces_one_that_waits_for_its_refusal(request_: bytes) -> None:
    limit = ConnectionLimit(16)
    for _ in range(12):
        limit.admit(Group())
    app = SimpleNamespace(state=SimpleNamespace(connection_limit=limit, route_scopes=RouteScopes(())))
    gate = AccessControl(
        empty,
        keys=KeyRing({"sk-ann-1": "ann", "sk-bob-1": "bob"}),
        hosts=None,
        origins=(),
        max_body_bytes=9,
        is_shared=True,
    )
    valid = ASK.replace(b"\r\n\r\n", b"\r\nauthorization: Bearer sk-bob-1\r\n\r\n") % b"v1/threads"

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await gate({**scope, "app": app}, receive, send)

    async with serving(limit, serve) as port, asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        await request_scheduler().wait_to_start("cid", work=20_000)  # makes the others wait for thousands of iterations
        made = []
        for request in (request_,) * 60 + (valid,):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(request)
            made.append(reader)
            while not reader.at_eof() and len(limit.open_connections) < min(len(made), 16):
                await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) < 40  # those of replaced connections have ended
        assert (await made[-1].readline()).startswith(b"HTTP/1.1 204 ")
        assert limit.refused == 0
        assert len(limit.open_connections) <= 17


async def test_connections_beyond_the_limit_are_few_and_short_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.connection_limit._Counted.SPARE", 2)
    monkeypatch.setattr("api.connection_limit._Counted.ASK_S", 0.3)
    limit = Patient(2)

    async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        made = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        return made

    async with serving(limit) as port, asyncio.timeout(10), contextlib.AsyncExitStack() as stack:
        made = [await connect(port) for _ in range(5)]
        for _, writer in made:
            stack.callback(writer.close)
        with contextlib.suppress(ConnectionError):
            assert await made[4][0].read() == b""  # immediately
        assert limit.refused == 1
        started = time.monotonic()
        for reader, _ in made[2:4]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        assert time.monotonic() - started < 5
        assert len(limit.open_connections) == 2
        reader, writer = await connect(port)
        writer.write(ASK % b"health")
        assert (await reader.read()).startswith(b"HTTP/1.1 204 ")  # closed, whatever the path
        writer.close()
        reader, writer = await connect(port)
        made[0][1].close()
        await asyncio.sleep(0.05)
        writer.write(ASK % b"v1/threads")  # below the limit again, so the connection stays open
        assert (await reader.readline()).startswith(b"HTTP/1.1 204 ")
        await asyncio.sleep(0.4)
        assert len(limit.open_connections) == 2
        writer.close()
    assert limit.refused == 1


def test_the_limit_of_files_is_raised_if_allowed(tmp_path: Path) -> None:
    low = ["sh", "-c", 'ulimit -Sn 128 && exec "$@"', "sh"]
    with ServerProcess(tmp_path, before=low, MODEL_URL=NOWHERE, MAX_CONNECTIONS="200") as server:
        log = server.log.read_text()
        assert "open files: 500 are allowed, raised from 128" in log
        assert "MAX_CONNECTIONS is" not in log
        with idle_connections(server.port, 150) as made:
            assert not any(ended(one) for one in made)


@pytest.mark.soak
def test_running_out_of_files_ends_without_a_busy_loop(tmp_path: Path) -> None:
    few = ["sh", "-c", 'ulimit -n 60 && exec "$@"', "sh"]
    with ServerProcess(tmp_path, before=few, MODEL_URL=NOWHERE) as server:
        assert (
            "MAX_CONNECTIONS is 8192, but the limit of 60 open files allows only 16 connections"
            in server.log.read_text()
        )
        with idle_connections(server.port, 120) as made:
            before = ticks(server.pid)
            time.sleep(0.5)
            assert ticks(server.pid) - before < 25
            assert sum(ended(one) for one in made) > 60
        time.sleep(0.2)
        assert server.request("POST", "/v1/threads", {})["object"] == "thread"
        assert "Traceback" not in server.log.read_text()


def ticks(pid: int) -> int:
    """Return the processor time in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat")
    if not fields.exists():
        pytest.skip("processor time is read from /proc, which this system lacks")
    fields_read = fields.read_text().rpartition(")")[2].split()
    return int(fields_read[11]) + int(fields_read[12])


KEYS = {"ann": "sk-ann-1", "bob": "sk-bob-1"}


def waiting_request(kind: str, path: str, key: str) -> bytes:
    """Send a request that the server does not answer to its end."""
    head = f"host: localhost\r\nauthorization: Bearer {key}\r\n"
    chat = b'{"model": "test-model", "messages": [{"role": "user", "content": "Hi"}]}'
    sized = f"content-type: application/json\r\ncontent-length: {len(chat)}\r\n"
    match kind:
        case "events":
            return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
        case "chats":
            return f"POST /v1/chat/completions HTTP/1.1\r\n{head}{sized}\r\n".encode() + chat
        case _:
            return f"POST /v1/threads HTTP/1.1\r\n{head}{sized}\r\n".encode() + chat[:9]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with two owners and 16 connections, whose model never answers."""
    api_keys = ",".join(f"{owner}={key}" for owner, key in KEYS.items())
    settings = {"MAX_CONNECTIONS": "16", "API_KEYS": api_keys}
    with (
        ScriptedUpstream() as upstream,
        ServerProcess(tmp_path_factory.mktemp("shared"), MODEL_URL=upstream.url, **settings) as server,
    ):
        upstream.default = lambda _: Hang()
        yield server


@pytest.mark.parametrize("kind", ["events", "chats", "bodies"])
def test_one_owner_leaves_connections_to_others(shared: ServerProcess, kind: str) -> None:
    with ExitStack() as stack:
        clients = {
            owner: stack.enter_context(
                httpx2.Client(base_url=shared.url, timeout=10, headers={"Authorization": f"Bearer {key}"})
            )
            for owner, key in KEYS.items()
        }
        assistant = clients["ann"].post("/v1/assistants", json={"model": "test-model"}).json()
        run = clients["ann"].post("/v1/threads/runs", json={"assistant_id": assistant["id"]}).json()
        path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/events"
        for client in clients.values():
            client.close()
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", shared.port), timeout=5)) for _ in range(12)]
        for connection in held:
            connection.sendall(waiting_request(kind, path, KEYS["ann"]))
        time.sleep(0.5)
        asked = {
            owner: httpx2.post(f"{shared.url}/v1/threads", json={}, headers={"Authorization": f"Bearer {key}"})
            for owner, key in KEYS.items()
        }
        assert {owner: answer.status_code for owner, answer in asked.items()} == {"ann": 429, "bob": 200}
        assert asked["ann"].headers["retry-after"] == "5"
        assert asked["ann"].headers["connection"] == "close"
        assert "MAX_CONNECTIONS is 16" in asked["ann"].json()["error"]["message"]
        held[0].close()
        time.sleep(0.5)
        again = httpx2.post(f"{shared.url}/v1/threads", json={}, headers={"Authorization": f"Bearer {KEYS['ann']}"})
        assert again.status_code == 200
    time.sleep(0.2)  # until the server has noticed that they closed


def test_a_single_owner_can_use_all_connections(tmp_path: Path) -> None:
    with (
        ScriptedUpstream() as upstream,
        ServerProcess(tmp_path, MODEL_URL=upstream.url, MAX_CONNECTIONS="16", API_KEYS="ann=sk-ann-1") as server,
        idle_connections(server.port, 14) as held,
    ):
        upstream.default = lambda _: Hang()
        for connection in held:
            connection.sendall(waiting_request("chats", "", KEYS["ann"]))
        time.sleep(0.5)
        asked = httpx2.post(f"{server.url}/v1/threads", json={}, headers={"Authorization": f"Bearer {KEYS['ann']}"})
        assert asked.status_code == 200


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/docs", "", 429),
        ("/static-offline-docs/swagger-ui-bundle.js", "", 429),
        ("/v1/health", "", 204),
        ("/v1/ready", "", 204),
        ("/v1/threads", "sk-ann-1", 204),
        ("/v1/threads", "wrong", 429),
        ("/docs", "sk-ann-1", 429),
    ],
)
async def test_requests_without_a_key_leave_connections_to_others(path: str, key: str, status: int) -> None:
    limit = ConnectionLimit(16)
    for _ in range(12):
        limit.admit(Group())
    statuses: list[int] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    gate = AccessControl(app, keys=KeyRing({"sk-ann-1": "ann"}), hosts=None, origins=(), max_body_bytes=1000)
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {key}".encode())]
    state = SimpleNamespace(connection_limit=limit, route_scopes=RouteScopes(()))
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "headers": headers, "state": {}}
    for _ in range(20):  # an answered request is no longer counted
        await gate({**scope, "app": SimpleNamespace(state=state)}, receive, send)
    assert statuses == [status] * 20


@pytest.mark.parametrize("groups", [[Group()], [Group("ann"), Group("bob"), Group()], [Group("", is_alone=True)]])
def test_each_group_leaves_connections_to_the_others(groups: list[Group]) -> None:
    limit = ConnectionLimit(1600)
    taken = {group: admit_all(limit, group) for group in (Group(is_probe=True), *groups)}
    assert taken.pop(Group(is_probe=True)) == 100
    assert sum(taken.values()) <= 1500
    assert min(taken.values()) >= 50
    limit.leave(groups[-1])
    assert admit_all(limit, groups[-1]) == 1


def admit_all(limit: ConnectionLimit, group: Group) -> int:
    """Admit requests until one is refused."""
    for number in range(limit.limit + 1):
        try:
            limit.admit(group)
        except TooManyRequests:
            return number
    raise AssertionError("no request was refused")


@pytest.mark.parametrize("keys", [{}, {"sk-ann-1": "ann"}, {"sk-ann-1": "ann", "sk-bob-1": "bob"}], ids=len)
async def test_a_flood_of_probes_is_refused_and_excludes_no_others(keys: dict[str, str]) -> None:
    goes_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/v1/ready":
            await goes_on.wait()
        await empty(scope, receive, send)

    limit = ConnectionLimit(64)
    state = SimpleNamespace(connection_limit=limit, route_scopes=RouteScopes(()))
    gate = AccessControl(app, keys=KeyRing(keys), hosts=None, origins=(), max_body_bytes=9, is_shared=len(keys) > 1)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await gate({**scope, "app": SimpleNamespace(state=state)}, receive, send)

    async with serving(limit, serve) as port, asyncio.timeout(60), contextlib.AsyncExitStack() as stack:

        async def ask(path: bytes) -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(ASK.replace(b"\r\n\r\n", b"\r\nauthorization: Bearer sk-ann-1\r\n\r\n") % path)
            return reader

        probes = [await ask(b"v1/ready") for _ in range(150)]
        assert (await (await ask(b"v1/threads")).readline()).startswith(b"HTTP/1.1 204 ")
        refused = b"".join(await asyncio.gather(*(probe.read() for probe in probes[16:])))
        assert refused.count(b"HTTP/1.1 429 ") == refused.count(b"connection: close") == 134
        goes_on.set()
        assert [(await probe.readexactly(12))[9:] for probe in probes[:16]] == [b"204"] * 16
        assert (await (await ask(b"health")).readline()).startswith(b"HTTP/1.1 204 ")
        assert limit.refused == 0
