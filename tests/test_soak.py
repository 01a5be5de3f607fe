"""kill -9 at random moments under load, again and again; then the books are checked. Run by `make soak`."""

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.process import ServerProcess
from tests.test_crash import TIME, end, messages, replay, text_of
from tests.upstream import Reply, ScriptedUpstream, Step

KILLS = 25
CLIENTS = 4

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    def model(body: dict[str, Any]) -> Step:
        """Call a function once, then answer; or answer at once."""
        if body.get("tools") and body["messages"][-1]["role"] != "tool":
            return Reply("Let me see.", tool_calls=[("getTime", {})], delay_s=0.01)
        return Reply("one two three four five six", delay_s=0.02)

    with ScriptedUpstream() as scripted:
        scripted.default = model
        yield scripted


class Client(threading.Thread):
    """A program that goes on whatever happens to its server, and keeps what it was promised."""

    def __init__(self, server: ServerProcess, *, tools: bool) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.tools = tools
        self.stopped = threading.Event()
        self.threads: set[str] = set()
        self.messages: set[tuple[str, str]] = set()
        self.runs: set[tuple[str, str]] = set()

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                with httpx2.Client(base_url=f"{self.server.url}/v1", timeout=5) as client:
                    self.turn(client)
            except (httpx2.TransportError, json.JSONDecodeError):
                time.sleep(0.05)

    def turn(self, client: httpx2.Client) -> None:
        assistant = client.post("/assistants", json={"model": "m", "tools": [TIME] if self.tools else []}).json()["id"]
        thread = client.post("/threads", json={}).json()["id"]
        self.threads.add(thread)
        answer = client.post(f"/threads/{thread}/messages", json={"role": "user", "content": "Hi"})
        if answer.status_code == 200:
            self.messages.add((thread, answer.json()["id"]))
        answer = client.post(f"/threads/{thread}/runs", json={"assistant_id": assistant})
        if answer.status_code != 200:
            return
        run = answer.json()["id"]
        self.runs.add((thread, run))
        for _ in range(100):
            body = client.get(f"/threads/{thread}/runs/{run}").json()
            if body["status"] == "requires_action":
                self.answer(client, body)
            elif body["status"] not in ("queued", "in_progress"):
                return
            time.sleep(0.03)

    def answer(self, client: httpx2.Client, run: dict[str, Any]) -> None:
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = [{"tool_call_id": call["id"], "output": "noon"} for call in calls]
        path = f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
        client.post(path, json={"tool_outputs": outputs})


def test_nothing_acknowledged_is_lost_and_nothing_comes_twice(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    chance = random.Random(20260826)
    with ServerProcess(tmp_path, MODEL_URL=upstream.url) as server:
        clients = [Client(server, tools=bool(number % 2)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.05, 1.2))
            server.kill()
            server.start()
        for client in clients:
            client.stopped.set()
        for client in clients:
            client.join(20)
        runs = {run for client in clients for run in client.runs}
        assert len(runs) > KILLS
        for thread, id in {message for client in clients for message in client.messages}:
            server.request("GET", f"/v1/threads/{thread}/messages/{id}")
        for thread, run in runs:
            check(server, thread, run)


def check(server: ServerProcess, thread: str, run: str) -> None:
    body = end(server, thread, run, "completed", "requires_action")
    log = replay(server, thread, run)
    numbers = [number for number, _, _ in log]
    assert numbers == sorted(set(numbers))
    created = [data["id"] for _, name, data in log if name.endswith((".message.created", ".step.created"))]
    assert len(created) == len(set(created))
    if body["status"] == "requires_action":
        return
    said = [one for one in messages(server, thread) if one["role"] == "assistant"]
    assert all(one["status"] == "completed" for one in said)
    assert "".join(one["content"][0]["text"]["value"] for one in said) == text_of(log)
    assert said[-1]["content"][0]["text"]["value"] == "one two three four five six"
    assert len(said) == len({one["id"] for one in said}) <= 2
    steps = server.request("GET", f"/v1/threads/{thread}/runs/{run}/steps")["data"]
    assert {step["status"] for step in steps} == {"completed"}
    server.request("POST", f"/v1/threads/{thread}/messages", {"role": "user", "content": "next"})
