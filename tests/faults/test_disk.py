"""A disk that is full or refuses writes: clients get errors, nothing acknowledged is lost, and the server recovers by
itself."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.disks import Small, without_privileges
from tests.process import ROOT, ServerProcess
from tests.test_crash import TIME, create_thread, messages, stream, wait_for_run
from tests.upstream import Reply, ScriptedUpstream

LARGE = "x" * 100_000
DISK_BYTES = 4_000_000


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
def small(upstream: ScriptedUpstream, tmp_path: Path) -> Iterator[Small]:
    with Small.on_disk(tmp_path, upstream, DISK_BYTES) as made:
        yield made


def fill_by_messages(server: ServerProcess) -> httpx2.Response:
    """Store large messages, then small ones, until one is refused; returns the refusal."""
    for content in (LARGE, "x"):
        body = {"messages": [{"role": "user", "content": content}]}
        limit = time.monotonic() + 60
        while (answer := httpx2.post(f"{server.url}/v1/threads", json=body, timeout=20)).status_code == 200:
            assert time.monotonic() < limit, "the disk was not full in time"
    return answer


def check_refusal(answer: httpx2.Response, status: int, code: str, word: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("server_error", code)
    assert word in error["message"]


def waiting_run(server: ServerProcess, upstream: ScriptedUpstream) -> tuple[str, str, Any]:
    """Start a run that waits for outputs; returns thread, run, and the outputs."""
    upstream.script(Reply(tool_calls=[("getTime", {})]))
    thread, assistant = create_thread(server, tools=[TIME])
    run = server.request("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})["id"]
    action = wait_for_run(server, thread, run, "requires_action")["required_action"]
    call = action["submit_tool_outputs"]["tool_calls"][0]["id"]
    return thread, run, {"tool_outputs": [{"tool_call_id": call, "output": "noon"}]}


def streaming_run(server: ServerProcess, upstream: ScriptedUpstream) -> tuple[str, str]:
    """Start a run whose reply stalls after its first word."""
    upstream.script(Reply("one two three", pause_after=2))
    thread, assistant = create_thread(server)
    seen = stream(
        server, f"/v1/threads/{thread}/runs", {"assistant_id": assistant, "stream": True}, "thread.message.delta"
    )
    return thread, seen[0][2]["id"]


def take_next_turn(server: ServerProcess, thread: str) -> None:
    """Check that within a few seconds the thread accepts a message and a run again."""
    limit = time.monotonic() + 10
    body = {"role": "user", "content": "And now?"}
    while httpx2.post(f"{server.url}/v1/threads/{thread}/messages", json=body, timeout=20).status_code != 200:
        assert time.monotonic() < limit, "the thread is locked"
        time.sleep(0.1)
    assistant = server.request("POST", "/v1/assistants", {"model": "m"})["id"]
    run = server.request("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})["id"]
    wait_for_run(server, thread, run, "completed")
    assert messages(server, thread)[-1]["content"][0]["text"]["value"] == "Echo: And now?"


def test_a_full_disk_is_reported_and_loses_nothing(small: Small, upstream: ScriptedUpstream) -> None:
    server = small.server
    thread, run, outputs = waiting_run(server, upstream)
    cut_thread, cut_run = streaming_run(server, upstream)
    filler = small.disk.fill()
    check_refusal(fill_by_messages(server), 507, "insufficient_storage", "disk is full")

    url = f"{server.url}/v1/threads/{thread}/runs/{run}/submit_tool_outputs"
    check_refusal(httpx2.post(url, json=outputs, timeout=20), 507, "insufficient_storage", "full")
    form = {"files": {"file": ("a.txt", b"x" * 500_000)}, "data": {"purpose": "assistants"}}
    check_refusal(httpx2.post(f"{server.url}/v1/files", **form, timeout=20), 507, "insufficient_storage", "full")  # type: ignore[arg-type]
    ready = httpx2.get(f"{server.url}/ready", timeout=20)
    assert ready.status_code == 503
    assert "full" in ready.json()["checks"]["store"]
    assert server.request("GET", f"/v1/threads/{thread}/runs/{run}")["status"] == "requires_action"
    assert len(messages(server, thread)) == 1
    upstream.release()
    time.sleep(0.3)  # the continued reply cannot be stored

    filler.unlink()
    server.request("POST", f"/v1/threads/{thread}/runs/{run}/submit_tool_outputs", outputs)
    wait_for_run(server, thread, run, "completed")
    wait_for_run(server, cut_thread, cut_run, "failed", "completed")
    for one in (thread, cut_thread):
        take_next_turn(server, one)
    assert list((small.disk.seen / "files" / "incoming").iterdir()) == []
    limit = time.monotonic() + 5
    while (checks := httpx2.get(f"{server.url}/ready", timeout=20).json()["checks"])["store"] != "ok":
        assert time.monotonic() < limit, checks  # `disk` stays: it is a small disk
        time.sleep(0.1)


@pytest.mark.soak
def test_a_server_that_ends_on_a_full_disk_loses_nothing(small: Small, upstream: ScriptedUpstream) -> None:
    server = small.server
    thread, run, outputs = waiting_run(server, upstream)
    cut_thread, cut_run = streaming_run(server, upstream)
    filler = small.disk.fill()
    fill_by_messages(server)
    server.kill()
    try:
        server.start()  # there is space where the write-ahead log was, unless something else needed it
    except AssertionError as refused:
        assert "threadhold: The database" in str(refused)  # noqa: PT017 - either will do
    assert "Traceback" not in server.log.read_text()
    server.kill()
    filler.unlink()
    server.start()
    wait_for_run(server, cut_thread, cut_run, "failed", "completed")
    small.disk.fill()
    fill_by_messages(server)
    server.terminate()
    assert server.wait(15) == 0
    filler.unlink()
    server.start()
    server.request("POST", f"/v1/threads/{thread}/runs/{run}/submit_tool_outputs", outputs)
    wait_for_run(server, thread, run, "completed")
    for one in (thread, cut_thread):
        take_next_turn(server, one)


def test_a_disk_that_refuses_writes_is_reported_and_recovers(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """No file can grow, as with a disk that has errors or was remounted read-only."""
    with ServerProcess(tmp_path, MODEL_URL=upstream.url) as server:
        thread, run, outputs = waiting_run(server, upstream)
        cut_thread, cut_run = streaming_run(server, upstream)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        check_refusal(fill_by_messages(server), 503, "unavailable", "cannot store anything right now")
        assert httpx2.get(f"{server.url}/ready", timeout=20).status_code == 503
        assert server.request("GET", f"/v1/threads/{thread}/runs/{run}")["status"] == "requires_action"
        upstream.release()
        time.sleep(0.3)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        server.request("POST", f"/v1/threads/{thread}/runs/{run}/submit_tool_outputs", outputs)
        wait_for_run(server, thread, run, "completed")
        wait_for_run(server, cut_thread, cut_run, "failed", "completed")
        for one in (thread, cut_thread):
            take_next_turn(server, one)


@pytest.mark.parametrize("what", ["file", pytest.param("folder", marks=pytest.mark.soak)])
def test_a_read_only_database_stops_the_start_with_a_sentence(tmp_path: Path, what: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if what == "file":
        (data / "threadhold.db").touch(0o400)
        (data / "threadhold.db.lock").touch(0o600)
    else:
        data.chmod(0o500)
    done = subprocess.run(
        [*without_privileges(), sys.executable, str(ROOT / "server.py")],
        env={"DATA_DIR": str(data), "PORT": "0", "MODEL_URL": "http://127.0.0.1:9/v1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert f"threadhold: The database `{data}/threadhold.db` could not be opened: " in done.stderr
    assert "Traceback" not in done.stderr
