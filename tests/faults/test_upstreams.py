"""Any behaviour of an upstream: its run ends with a reason, other clients do not wait, the thread accepts a next
turn."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.behaviours import BEHAVIOURS, FLOODS, KNOWN, LONG_FLOODS, Case
from tests.faults.hostile import GOOD, HostileUpstream
from tests.process import ServerProcess
from tests.test_crash import replay, text_of, wait_for_run

SETTINGS = {"UPSTREAM_TIMEOUT_S": "1", "RUN_EXPIRY_S": "120"}
MAX_GROWN_MB = 400
MAX_WAIT_S = 2.0

Begin = Callable[[str], Any]


class Deps:
    """A server with hostile upstreams, and a run for each behaviour."""

    def __init__(self, server: ServerProcess, upstream: HostileUpstream) -> None:
        self.server = server
        self.upstream = upstream
        self.runs: dict[str, Any] = {}
        self.good = server.request("POST", "/v1/assistants", {"model": "good"})["id"]

    def start_run(self, behaviour: str) -> Any:
        """Start a run whose model behaves like this."""
        assistant = self.server.request("POST", "/v1/assistants", {"model": behaviour})["id"]
        body = {"assistant_id": assistant, "thread": {"messages": [{"role": "user", "content": "Well?"}]}}
        self.runs[behaviour] = self.server.request("POST", "/v1/threads/runs", body)
        return self.runs[behaviour]

    def check(self, behaviour: str, case: Case) -> None:
        """Wait for the end of the run, and check everything that a client can see of it."""
        thread, run = self.runs[behaviour]["thread_id"], self.runs[behaviour]["id"]
        body = wait_for_run(self.server, thread, run, "completed" if case.error is None else "failed")
        log = replay(self.server, thread, run)
        texts = self.messages(thread)
        assert "".join(texts) == text_of(log)
        if case.error is None:
            assert text_of(log) == case.text
        else:
            assert case.error in body["last_error"]["message"]
            assert body["last_error"]["code"] in KNOWN
        assert log[-1][1] == f"thread.run.{body['status']}"
        steps = self.server.request("GET", f"/v1/threads/{thread}/runs/{run}/steps")["data"]
        assert "in_progress" not in {step["status"] for step in steps}
        self.take_next_turn(thread)
        assert self.upstream.open[behaviour] == 0, "the connection to the upstream is still open"

    def messages(self, thread: str) -> list[str]:
        """Return the assistant's texts, oldest first."""
        listed = self.server.request("GET", f"/v1/threads/{thread}/messages?order=asc")["data"]
        return [part["text"]["value"] for one in listed if one["role"] == "assistant" for part in one["content"]]

    def take_next_turn(self, thread: str) -> None:
        """Check that the thread works normally."""
        self.server.request("POST", f"/v1/threads/{thread}/messages", {"role": "user", "content": "And now?"})
        path = f"/v1/threads/{thread}/runs"
        run = self.server.request("POST", path, {"assistant_id": self.good})["id"]
        wait_for_run(self.server, thread, run, "completed")
        assert self.messages(thread)[-1] == GOOD


@pytest.fixture(scope="module")
def deps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deps]:
    """All behaviours that can run unobserved, at the same time: each waits for its retries."""
    behaviours = {name: case.behave for name, case in {**BEHAVIOURS, **FLOODS, **LONG_FLOODS}.items()}
    with (
        HostileUpstream(behaviours) as upstream,
        ServerProcess(tmp_path_factory.mktemp("hostile"), MODEL_URL=upstream.url, **SETTINGS) as server,
    ):
        made = Deps(server, upstream)
        for behaviour in BEHAVIOURS:
            made.start_run(behaviour)
        yield made
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_broken_upstream_ends_its_run_with_a_reason(deps: Deps, behaviour: str) -> None:
    deps.check(behaviour, BEHAVIOURS[behaviour])


@pytest.mark.parametrize("behaviour", FLOODS)
def test_a_flood_is_ended_within_bounded_memory(deps: Deps, behaviour: str) -> None:
    flood(deps, behaviour, FLOODS[behaviour])


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("behaviour", LONG_FLOODS)
def test_a_flood_of_chunks_is_ended_within_bounded_memory(
    deps: Deps, behaviour: str, record_property: Callable[[str, object], None]
) -> None:
    waited_s, grown_mb = flood(deps, behaviour, LONG_FLOODS[behaviour])
    record_property("another waited at most, s", round(waited_s, 2))
    record_property("memory grown, MB", grown_mb)


def flood(deps: Deps, behaviour: str, case: Case) -> tuple[float, int]:
    """Run a flood; returns how long another client waited at most, and by how much the memory grew."""
    before = memory_mb(deps.server.pid)
    run = deps.start_run(behaviour)
    path = f"{deps.server.url}/v1/threads/{run['thread_id']}/runs/{run['id']}"
    slowest, limit = 0.0, time.monotonic() + 100
    with httpx2.Client(timeout=30) as client:
        while client.get(path).json()["status"] in ("queued", "in_progress") and time.monotonic() < limit:
            asked = time.monotonic()
            assert client.post(f"{deps.server.url}/v1/threads", json={}).status_code == 200
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.05)
    deps.check(behaviour, case)
    grown = memory_mb(deps.server.pid) - before
    assert grown < MAX_GROWN_MB
    assert slowest < MAX_WAIT_S
    return slowest, grown


def memory_mb(pid: int) -> int:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("the memory of a process is read from /proc, which this system lacks")
    case = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(case.split()[1]) // 1024
