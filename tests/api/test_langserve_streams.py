"""LangServe's streams with readers that pause, leave, or read everything."""

import asyncio
import gc
import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from langchain_core.tracers import RunLogPatch

from graphs.run_runnable import RunRunnable
from tests.api.test_langserve import chunks_of, open_deps, remote
from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream

pytestmark = pytest.mark.filterwarnings("ignore:astream_log is deprecated")

ROUTES = ("/chat/stream", "/chat/stream_log", "/chat/c/N4XyA/stream_log", "/chat/stream_events")
LARGE = Reply(chunks=["word " * 20_000] * 150)
"""15 MB: more than the buffers of two sockets hold."""


def ask(server: ServerProcess, path: str, **more: Any) -> socket.socket:
    """Send a request and read the first part of its answer."""
    given = {"content": "hi"} if path.startswith("/assistant") else {"human": "hi"}
    body = json.dumps({"input": given, **more}).encode()
    client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    head = "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    client.sendall((head % (path, len(body))).encode() + body)
    assert client.recv(100).startswith(b"HTTP/1.1 200")
    return client


@pytest.mark.parametrize("path", ROUTES)
def test_a_paused_reader_pauses_its_model_call(path: str, server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script(LARGE)
    closed, finished = upstream.closed_early, upstream.finished
    with ask(server, path):
        time.sleep(1)
        assert (upstream.open_streams, upstream.finished) == (1, finished)
        started = time.monotonic()
        assert httpx2.get(f"{server.url}/health").status_code == 200
        assert time.monotonic() - started < 0.5
    upstream.wait_for(lambda up: up.closed_early == closed + 1)


def test_leaving_an_unread_log_cancels_its_run(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(chunks=["word " * 2000] * 300, pause_after=299))
    closed = upstream.closed_early
    with ask(server, "/assistant/stream_log"):
        time.sleep(1)
        assert upstream.open_streams == 1
    upstream.wait_for(lambda up: up.closed_early == closed + 1)


async def test_a_run_s_log_buffers_a_bounded_amount(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Reply(chunks=[f"{n} " for n in range(1000)]))
    async with open_deps(upstream, tmp_path) as deps:
        log: Any = RunRunnable(deps.runner, deps.store).astream_log({"content": "hi"})
        seen = ""
        async for patch in log:
            seen += str(patch)
            if "thread.message.delta" in seen:
                break
        await asyncio.sleep(0.5)
        alive = [each for each in gc.get_objects() if type(each) is RunLogPatch]
        assert len(alive) < 20
        del alive
        async for patch in log:
            seen += str(patch)
        assert "'999 '" in seen
        assert "thread.run.completed" in seen


@pytest.mark.parametrize("filters", [{}, {"exclude_types": ["llm"]}], ids=["all", "no models"])
def test_the_log_of_a_long_answer_is_complete_and_small(
    filters: dict[str, Any], server: ServerProcess, upstream: ScriptedUpstream
) -> None:
    text = "".join(f"{n:04} " for n in range(4000))
    upstream.script(Reply(text))
    answer = httpx2.post(f"{server.url}/chat/stream_log", json={"input": {"human": "hi"}, **filters}, timeout=60)
    ops = [op for data in chunks_of(answer) for op in data["ops"]]
    assert "".join(op["value"] for op in ops if op["path"] == "/streamed_output/-") == text
    result = [op["value"] for op in ops if op["path"] == "/final_output"]
    assert result[-1] == text
    assert 100 < len(result) < 400
    assert sum(map(len, result)) < 40 * len(text)
    assert len(answer.content) < 500 * len(text)


async def test_a_log_works_with_python_s_remote_runnable(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    text = "one two three four " * 20
    upstream.script(Reply(text))
    async with remote(f"{server.url}/chat") as chat:
        log = [patch async for patch in chat.astream_log({"human": "hi"})]
    state = (RunLogPatch() + RunLogPatch(*(op for patch in log for op in patch.ops))).state
    assert state["final_output"] == "".join(state["streamed_output"]) == text
    assert len(state["streamed_output"]) > 30
