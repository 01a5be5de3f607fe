"""Text of clients and upstreams gets into no header and makes no log line."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.api.conftest import ApiClient, wait_loaded
from tests.process import ServerProcess
from tests.upstream import Fail, ScriptedUpstream

FORGED = 'x\r\n\r\nHTTP/1.1 200 OK\r\nx-forged: 1\n{"forged": true}\n2026-11-21 10:00:00 INFO forged\x1b[2J\u2028forged'
QUOTED = "x%0D%0A%0D%0AHTTP/1.1%20200%20OK%0D%0Ax-forged:%201%0A%7B%22forged%22:%20true%7D%0Aforged"


def test_headers_and_log_lines_cannot_be_forged(
    upstream: ScriptedUpstream, tmp_path: Path, script: Callable[..., None]
) -> None:
    with ServerProcess(tmp_path, MODEL_URL=upstream.url, LOG_LEVEL="debug") as server:
        with httpx2.Client(base_url=f"{wait_loaded(server).url}/v1", timeout=10) as client:
            api = ApiClient(client)
            script(Fail(400, {"error": {"message": FORGED, "type": FORGED, "code": FORGED}}))
            assert api.wait_ended(api.run(model=FORGED))["status"] == "failed"
            answers = [
                client.get(f"/threads/thread_{QUOTED}"),
                client.get(f"/{QUOTED}"),
                client.put(f"/threads/{QUOTED}"),
                client.get("/assistants", params={"after": FORGED}),
                client.get("/assistants", headers=[(b"user-agent", b"x\tforged"), (b"openai-beta", b"\xff\xfe")]),
                client.post("/threads", content=b"{}", headers=[(b"content-type", b"text/x; a=\x85forged")]),
                client.post("/assistants", json={"model": FORGED, "name": FORGED, FORGED: FORGED}),
                client.post("/chat/completions", json={"model": FORGED, "messages": []}),
                client.post("/files", files={"file": (FORGED, b"x")}, data={"purpose": FORGED}),
            ]
            file = api.file("x", name=FORGED, purpose="user_data")
            answers += [client.get(f"/files/{file}"), client.get(f"/files/{file}/content")]
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            raw.sendall(f"GET /{QUOTED}?{QUOTED} HTTP/1.1\r\nhost: x{QUOTED}\r\nconnection: close\r\n\r\n".encode())
            while raw.recv(65_536):
                pass
        server.terminate()
        server.wait(20)
        lines = server.log.read_text(errors="replace").split("\n")
    for answer in answers:
        assert answer.status_code < 500
        assert not [name for name in answer.headers if "forged" in name]
    assert any("forged" in line for line in lines), "the forged text is logged as a field's value"
    for line in filter(None, lines):
        entry = json.loads(line)
        assert {"time", "level", "message"} <= entry.keys(), line
        assert "forged" not in entry


@pytest.mark.parametrize("name", ["x-request-id", "openai-organization", "traceparent"])
def test_header_values_are_not_sent_back(client: httpx2.Client, name: str) -> None:
    answer = client.get("/assistants", headers={name: "forged-by-the-client"})
    assert "forged" not in str(answer.headers)
