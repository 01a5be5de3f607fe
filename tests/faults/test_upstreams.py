"""Whatever an upstream does: its run ends lawfully and says why, nobody else waits, the thread takes its next turn."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.hostile import GOOD, HostileUpstream
from tests.faults.ways import FLOODS, KNOWN, LONG_FLOODS, WAYS, Told
from tests.process import ServerProcess
from tests.test_crash import replay, text_of, wait_for_run

SETTINGS = {"UPSTREAM_TIMEOUT_S": "1", "RUN_EXPIRY_S": "120"}
MAX_GROWN_MB = 400
MAX_WAIT_S = 2.0

Begin = Callable[[str], Any]


class Deps:
    """A server on hostile upstreams, and the runs that were begun there, one for each way."""

    def __init__(self, server: ServerProcess, upstream: HostileUpstream) -> None:
        self.server = server
        self.upstream = upstream
        self.runs: dict[str, Any] = {}
        self.good = server.request("POST", "/v1/assistants", {"model": "good"})["id"]

    def begin(self, way: str) -> Any:
        """Start a run whose model answers in this way."""
        assistant = self.server.request("POST", "/v1/assistants", {"model": way})["id"]
        body = {"assistant_id": assistant, "thread": {"messages": [{"role": "user", "content": "Well?"}]}}
        self.runs[way] = self.server.request("POST", "/v1/threads/runs", body)
        return self.runs[way]

    def check(self, way: str, told: Told) -> None:
        """Wait for the end of the way's run, and check all that a client can see of it."""
        thread, run = self.runs[way]["thread_id"], self.runs[way]["id"]
        body = wait_for_run(self.server, thread, run, "completed" if told.says is None else "failed")
        log = replay(self.server, thread, run)
        said = self.messages(thread)
        assert "".join(said) == text_of(log)
        if told.says is None:
            assert text_of(log) == told.text
        else:
            assert told.says in body["last_error"]["message"]
            assert body["last_error"]["code"] in KNOWN
        assert log[-1][1] == f"thread.run.{body['status']}"
        steps = self.server.request("GET", f"/v1/threads/{thread}/runs/{run}/steps")["data"]
        assert "in_progress" not in {step["status"] for step in steps}
        self.take_next_turn(thread)
        assert self.upstream.open[way] == 0, "the connection is still open"

    def messages(self, thread: str) -> list[str]:
        """What the assistant has said, oldest first."""
        listed = self.server.request("GET", f"/v1/threads/{thread}/messages?order=asc")["data"]
        return [part["text"]["value"] for one in listed if one["role"] == "assistant" for part in one["content"]]

    def take_next_turn(self, thread: str) -> None:
        """The thread goes on as if nothing had happened."""
        self.server.request("POST", f"/v1/threads/{thread}/messages", {"role": "user", "content": "And now?"})
        path = f"/v1/threads/{thread}/runs"
        run = self.server.request("POST", path, {"assistant_id": self.good})["id"]
        wait_for_run(self.server, thread, run, "completed")
        assert self.messages(thread)[-1] == GOOD


@pytest.fixture(scope="module")
def deps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deps]:
    """All the ways that need no attention, under way at once: each waits for its retries."""
    ways = {name: told.way for name, told in {**WAYS, **FLOODS, **LONG_FLOODS}.items()}
    with (
        HostileUpstream(ways) as upstream,
        ServerProcess(tmp_path_factory.mktemp("hostile"), MODEL_URL=upstream.url, **SETTINGS) as server,
    ):
        made = Deps(server, upstream)
        for way in WAYS:
            made.begin(way)
        yield made
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("way", WAYS)
def test_a_run_on_a_broken_upstream_ends_with_a_reason_and_the_thread_goes_on(deps: Deps, way: str) -> None:
    deps.check(way, WAYS[way])


@pytest.mark.parametrize("way", FLOODS)
def test_a_flood_is_ended_before_it_fills_the_memory_and_others_are_served_meanwhile(deps: Deps, way: str) -> None:
    drown(deps, way, FLOODS[way])


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", LONG_FLOODS)
def test_a_flood_of_chunks_is_ended_before_it_fills_the_memory(
    deps: Deps, way: str, record_property: Callable[[str, object], None]
) -> None:
    waited_s, grown_mb = drown(deps, way, LONG_FLOODS[way])
    record_property("another waited at most, s", round(waited_s, 2))
    record_property("memory grown, MB", grown_mb)


def drown(deps: Deps, way: str, told: Told) -> tuple[float, int]:
    """Let a flood come; returns how long another client waited at most, and by how much the memory grew."""
    before = memory_mb(deps.server.pid)
    run = deps.begin(way)
    path = f"{deps.server.url}/v1/threads/{run['thread_id']}/runs/{run['id']}"
    slowest, limit = 0.0, time.monotonic() + 100
    with httpx2.Client(timeout=30) as client:
        while client.get(path).json()["status"] in ("queued", "in_progress") and time.monotonic() < limit:
            asked = time.monotonic()
            assert client.post(f"{deps.server.url}/v1/threads", json={}).status_code == 200
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.05)
    deps.check(way, told)
    grown = memory_mb(deps.server.pid) - before
    assert grown < MAX_GROWN_MB
    assert slowest < MAX_WAIT_S
    return slowest, grown


def memory_mb(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("the memory of a process is read from /proc, which this system lacks")
    told = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(told.split()[1]) // 1024
