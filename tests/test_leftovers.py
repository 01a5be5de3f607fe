"""A server that has stopped leaves no task, timer, thread, child process or file behind."""

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ops.settings import Settings
from server import create_app
from tests.graphs.harness import WEATHER
from tests.upstream import Hang, Reply, ScriptedUpstream

WAIT_S = 60
SHARED = ("requests", "answers", "disk", "indexing", "comparing", "resolver", "bodies")
"""Threads that all servers of a process share; they end with the process."""


class RecordingLoop(asyncio.SelectorEventLoop):
    """Notes every timer."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[asyncio.TimerHandle] = []

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        self.timers.append(handle)
        return handle

    def waiting(self) -> list[asyncio.TimerHandle]:
        """Return the timers that have yet to fire."""
        return [handle for handle in self.timers if not handle.cancelled() and handle.when() > self.time()]


@pytest.fixture
def up() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


def settings(folder: Path, up: ScriptedUpstream) -> Settings:
    return Settings(_env_file=None, data_dir=folder, model_url=up.url)


def threads() -> set[threading.Thread]:
    shared = tuple(f"threadhold-{name}" for name in SHARED)
    return {each for each in threading.enumerate() if not each.name.startswith(shared)}


def files() -> set[str]:
    """The files, sockets and pipes of this process."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{each.name} {os.readlink(each)}")
        except OSError:  # that of the listing itself
            continue
    return found


async def use(client: httpx2.AsyncClient, up: ScriptedUpstream) -> None:
    """Use each part of the server that starts tasks, threads or timers."""
    assert (await client.get("/ready")).status_code == 200
    await client.get("/models")
    made = (await client.post("/assistants", json={"model": "m", "tools": [WEATHER]})).json()["id"]
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    body = {"assistant_id": made, "thread": asked, "stream": True}
    assert "thread.run.completed" in (await client.post("/threads/runs", json=body)).text
    up.script(Reply(tool_calls=[("getWeather", {"place": "Rome"}, "up1")]))
    waiting = (await client.post("/threads/runs", json=body)).text
    assert "thread.run.requires_action" in waiting
    up.script(Hang())
    running = (await client.post("/threads/runs", json={**body, "stream": False})).json()
    assert running["status"] == "queued"
    done = await client.post("/assistant/invoke", json={"input": {"content": "Hi"}})
    assert done.json()["output"]["event"] == "thread.run.completed"
    await client.post("/chat/completions", json={"model": "m", **asked})
    file = (
        await client.post("/files", files={"file": ("a.txt", b"Rome is sunny.")}, data={"purpose": "assistants"})
    ).json()
    store = (await client.post("/vector_stores", json={"file_ids": [file["id"]]})).json()["id"]
    async with asyncio.timeout(WAIT_S):
        while (await client.get(f"/vector_stores/{store}")).json()["status"] != "completed":
            await asyncio.sleep(0.02)
    found = await client.post(f"/vector_stores/{store}/search", json={"query": "Rome"})
    assert found.status_code == 200, found.text
    await client.delete(f"/vector_stores/{store}")
    assert "thread.run.completed" in (await client.post("/threads/runs", json=body)).text


async def serve_once(folder: Path, up: ScriptedUpstream) -> None:
    app = create_app(settings(folder, up))
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await use(client, up)


@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields'")  # LangServe reads them from the instance
def test_a_stopped_server_leaves_nothing_behind(tmp_path: Path, up: ScriptedUpstream) -> None:
    async def check() -> list[str]:
        await serve_once(tmp_path, up)
        await asyncio.sleep(0)  # cancelled tasks end
        loop = asyncio.get_running_loop()
        assert isinstance(loop, RecordingLoop)
        left = [f"task {each}" for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        return left + [f"timer {each}" for each in loop.waiting()]

    before, opened = threads(), files()
    with asyncio.Runner(loop_factory=RecordingLoop) as runner:
        left = runner.run(check())
    gc.collect()
    left += [f"thread {each}" for each in threads() - before]
    left += [f"file {each}" for each in files() - opened if str(tmp_path) in each]
    assert left == []
