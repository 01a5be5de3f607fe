"""Another program locks the database: a server waits briefly, then answers with an error, and continues after the
lock."""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.faults.test_disk import check_refusal, streaming_run, take_next_turn, waiting_run
from tests.process import ServerProcess
from tests.test_crash import create_thread, messages, text_of, wait_for_run
from tests.test_crash import replay as replayed
from tests.upstream import Reply, ScriptedUpstream

PATIENCE_S = 5.0
"""How long a commit waits for the lock; later requests are refused immediately."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("locked")


@pytest.fixture(scope="module")
def server(upstream: ScriptedUpstream, folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(folder, MODEL_URL=upstream.url) as process:
        yield process


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the write lock, as a backup program or a user's shell does."""
    with closing(sqlite3.connect(folder / "threadhold.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_short_lock_is_waited_for_unnoticed(server: ServerProcess, upstream: ScriptedUpstream, folder: Path) -> None:
    upstream.script(Reply("one two three four", delay_s=0.3))
    thread, assistant = create_thread(server)
    run = server.request("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})["id"]
    with ThreadPoolExecutor() as pool:
        with locked(folder):
            asked = pool.submit(server.request, "POST", "/v1/threads", {})
            time.sleep(1.5)
            assert not asked.done()
        assert asked.result()["object"] == "thread"
    wait_for_run(server, thread, run, "completed")
    assert text_of(replayed(server, thread, run)) == "one two three four"


def test_a_long_lock_is_reported_and_the_server_recovers(
    server: ServerProcess, upstream: ScriptedUpstream, folder: Path
) -> None:
    thread, run, outputs = waiting_run(server, upstream)
    cut_thread, cut_run = streaming_run(server, upstream)
    idle, assistant = create_thread(server)
    runs = f"{server.url}/v1/threads/{idle}/runs"
    asked = {
        "a thread": (f"{server.url}/v1/threads", {}),
        "a message": (f"{server.url}/v1/threads/{idle}/messages", {"role": "user", "content": "lost"}),
        "a run": (runs, {"assistant_id": assistant}),
        "outputs": (f"{server.url}/v1/threads/{thread}/runs/{run}/submit_tool_outputs", outputs),
        "a stop": (f"{server.url}/v1/threads/{cut_thread}/runs/{cut_run}/cancel", {}),
    }
    started = time.monotonic()
    with locked(folder), ThreadPoolExecutor() as pool:
        answers = [pool.submit(httpx2.post, url, json=body, timeout=30) for url, body in asked.values()]
        assert [one["role"] for one in messages(server, thread)] == ["user"]
        refused = [answer.result() for answer in answers]
        took_s = time.monotonic() - started
    for answer in refused:
        check_refusal(answer, 503, "unavailable", "locked")
        assert answer.headers["retry-after"] == "5"
    assert took_s < 2 * PATIENCE_S
    assert [one["content"][0]["text"]["value"] for one in messages(server, idle)] == ["Hello"]
    assert server.request("GET", f"/v1/threads/{idle}/runs")["data"] == []
    server.request("POST", f"/v1/threads/{thread}/runs/{run}/submit_tool_outputs", outputs)
    wait_for_run(server, thread, run, "completed")
    wait_for_run(server, cut_thread, cut_run, "cancelled", "failed")
    for one in (thread, cut_thread, idle):
        take_next_turn(server, one)


def test_a_long_read_delays_no_request(server: ServerProcess, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "threadhold.db", isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM threads").fetchone()
        started = time.monotonic()
        for _ in range(20):
            server.request("POST", "/v1/threads", {"messages": [{"role": "user", "content": "x" * 10_000}]})
        assert time.monotonic() - started < PATIENCE_S
