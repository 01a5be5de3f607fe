"""The starts of requests are scheduled fairly by owner, whatever the requests do afterwards."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from api.access import AccessControl
from api.connection_limit import ConnectionLimit
from api.cors import Cors
from api.key_ring import KeyRing
from api.scopes import RouteScopes
from tests.api.test_connection_limit import serving

REQUESTS = 300
SOON = 12
"""Requests that can start before another owner's only one; without turns it is the last to start."""


class Server:
    """The gate before an app that needs only the event loop. `answered` has the key of each answered request."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        access = AccessControl(
            _app,
            keys=KeyRing({"sk-ann": "ann", "sk-bob": "bob"}),
            hosts=None,
            origins=(),
            max_body_bytes=1000,
            is_shared=True,
        )
        self._gate = Cors(access, origins=["*"])

    async def request(self, key: str, path: str = "/v1/nothing") -> None:
        """Send a request with a key, or a preflight for the key "preflight"."""

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.answered.append(key)

        method, headers = "GET", [(b"host", b"localhost"), (b"authorization", f"Bearer {key}".encode())]
        if key == "preflight":
            method, headers = "OPTIONS", [(b"origin", b"http://a"), (b"access-control-request-method", b"POST")]
        app = SimpleNamespace(state=SimpleNamespace(route_scopes=RouteScopes(())))
        scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "headers": headers, "app": app}
        await self._gate({**scope, "state": {}}, receive, send)


class _Routes:
    def have(self, _method: str, _path: str) -> bool:
        return True


async def _app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    "others", ["sk-ann", "sk-wrong", "", "preflight"], ids=["another owner", "a wrong key", "no key", "preflights"]
)
@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/threads"])
async def test_requests_of_others_delay_an_owner_by_few_starts(others: str, path: str) -> None:
    server = Server()
    flood = [asyncio.ensure_future(server.request(others, path)) for _ in range(REQUESTS)]
    await asyncio.sleep(0)  # all of them arrive first
    await server.request("sk-bob", path)
    assert server.answered.index("sk-bob") < SOON
    await asyncio.gather(*flood)
    assert server.answered.count(others) == REQUESTS


async def test_probes_wait_for_few_requests_without_a_key() -> None:
    server = Server()
    flood = [asyncio.ensure_future(server.request("")) for _ in range(REQUESTS)]
    await asyncio.sleep(0)
    await server.request("probe", "/health")
    assert server.answered.index("probe") < SOON
    await asyncio.gather(*flood)


@pytest.mark.parametrize(
    "broken",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"],
    ids=["a head", "a body"],
)
async def test_refusals_of_invalid_http_delay_a_request_by_few_starts(broken: bytes) -> None:
    answered: list[bytes] = []
    gate = AccessControl(_app, keys=KeyRing({"sk-bob": "bob"}), hosts=None, origins=(), max_body_bytes=1000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["app"] = SimpleNamespace(state=SimpleNamespace(route_paths=_Routes(), route_scopes=RouteScopes(())))
        await gate(scope, receive, send)

    async with serving(ConnectionLimit(1000), app) as port, asyncio.timeout(60):
        made = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]

        async def ask(number: int, request: bytes) -> None:
            reader, writer = made[number]
            writer.write(request)
            answered.append((await reader.read(12))[9:])
            writer.close()

        asked = [asyncio.create_task(ask(number, broken)) for number in range(99)]
        asked.append(asyncio.create_task(ask(99, b"GET /v1/nothing HTTP/1.1\r\nauthorization: Bearer sk-bob\r\n\r\n")))
        await asyncio.gather(*asked)
        assert answered.index(b"404") < SOON
        assert len(answered) == 100


async def test_a_single_request_waits_for_no_pass_of_the_loop() -> None:
    server, passes = Server(), []
    asyncio.get_running_loop().call_soon(passes.append, 1)
    await server.request("sk-bob")
    assert (server.answered, passes) == (["sk-bob"], [])


async def test_a_cancelled_request_takes_no_turn() -> None:
    server = Server()
    flood = [asyncio.ensure_future(server.request("sk-ann")) for _ in range(REQUESTS)]
    await asyncio.sleep(0)
    for each in flood[10:]:
        each.cancel()
    await asyncio.wait_for(server.request("sk-ann"), 5)
    await asyncio.gather(*flood, return_exceptions=True)
    assert len(server.answered) <= 20
