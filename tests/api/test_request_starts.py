"""The starts of requests are scheduled fairly by owner, whatever the requests do afterwards."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from api.access import AccessControl

REQUESTS = 300
SOON = 12
"""Requests that can start before another owner's only one; without turns it is the last to start."""


class Server:
    """The gate before an app that needs only the event loop. `answered` has the key of each answered request."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self._gate = AccessControl(
            _app, keys={"sk-ann": "ann", "sk-bob": "bob"}, hosts=None, origins=(), max_body_bytes=1000
        )

    async def request(self, key: str, path: str = "/v1/nothing") -> None:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.answered.append(key)

        headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {key}".encode())]
        app = SimpleNamespace(state=SimpleNamespace())
        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "headers": headers, "app": app}
        await self._gate({**scope, "state": {}}, receive, send)


async def _app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("others", ["sk-ann", "sk-wrong", ""], ids=["another owner", "a wrong key", "no key"])
@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/threads"])
async def test_requests_of_others_delay_an_owner_by_few_starts(others: str, path: str) -> None:
    server = Server()
    flood = [asyncio.ensure_future(server.request(others, path)) for _ in range(REQUESTS)]
    await server.request("sk-bob", path)
    assert server.answered.index("sk-bob") < SOON
    await asyncio.gather(*flood)
    assert server.answered.count(others) == REQUESTS


async def test_probes_wait_for_few_requests_without_a_key() -> None:
    server = Server()
    flood = [asyncio.ensure_future(server.request("")) for _ in range(REQUESTS)]
    await server.request("probe", "/health")
    assert server.answered.index("probe") < SOON
    await asyncio.gather(*flood)


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
