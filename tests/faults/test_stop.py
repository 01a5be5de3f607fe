"""A stopping server answers the requests that it cannot finish."""

import threading
from pathlib import Path
from typing import Any

import httpx2

from tests.process import ServerProcess
from tests.upstream import Hang, ScriptedUpstream


def test_a_request_that_outlasts_the_grace_period_gets_503(tmp_path: Path) -> None:
    answers: list[httpx2.Response] = []

    def ask(url: str, body: dict[str, Any]) -> None:
        answers.append(httpx2.post(url, json=body, timeout=30))

    with ScriptedUpstream() as upstream, ServerProcess(tmp_path, MODEL_URL=upstream.url, DRAIN_S="0.1") as server:
        upstream.default = lambda _: Hang()
        body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        asking = threading.Thread(target=ask, args=(f"{server.url}/v1/chat/completions", body))
        asking.start()
        upstream.wait_for(lambda up: len(up.requests) == 1)
        server.terminate()
        asking.join(20)
        assert server.wait(20) == 0
        log = server.log.read_text()
    (answer,) = answers
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["error"]["message"] == "The server is stopping. Send the request again in 5 s."
    assert "Exception in ASGI application" not in log
