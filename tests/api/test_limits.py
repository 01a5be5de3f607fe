"""Limits over HTTP: excess requests are refused, owners share fairly, and a reader that stalls delays no other
client."""

import base64
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest

from tests.api.conftest import ApiClient, wait_loaded
from tests.process import ServerProcess, resident_mb
from tests.upstream import Hang, Reply, ScriptedUpstream

DELTA = b"event: thread.message.delta\n"


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """A separate upstream, because these tests leave its requests hanging."""
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
def api() -> Iterator[Callable[..., ApiClient]]:
    with contextlib.ExitStack() as stack:

        def make(server: ServerProcess, key: str = "any") -> ApiClient:
            headers = {"Authorization": f"Bearer {key}"}
            client = httpx2.Client(base_url=f"{wait_loaded(server).url}/v1", headers=headers, timeout=60)
            return ApiClient(stack.enter_context(client))

        yield make


def statuses(api: ApiClient, *runs: dict[str, Any]) -> list[str]:
    return [api.get(f"/threads/{run['thread_id']}/runs/{run['id']}")["status"] for run in runs]


@pytest.mark.parametrize("kind", ["image_file", "image_url"])
def test_images_count_as_memory_of_their_runs(
    api: Callable[..., ApiClient], upstream: ScriptedUpstream, tmp_path: Path, kind: str
) -> None:
    upstream.default = lambda body: Hang()
    picture = b"\x89PNG\r\n\x1a\n" + bytes(1_500_000)
    with ServerProcess(tmp_path, MODEL_URL=upstream.url, MAX_RUN_MEMORY_BYTES="6000000") as server:
        ann = api(server)
        if kind == "image_file":
            form = {"files": {"file": ("a.png", picture)}, "data": {"purpose": "vision"}}
            shown = {"file_id": ann.client.post("/files", **form).json()["id"]}
        else:
            shown = {"url": "data:image/png;base64," + base64.b64encode(picture).decode()}
        message = {"role": "user", "content": [{"type": kind, kind: shown}]}
        body = {"assistant_id": ann.assistant(), "thread": {"messages": [message]}}
        first, second = ann.post("/threads/runs", body), ann.post("/threads/runs", body)
        upstream.wait_for(lambda up: len(up.requests) == 1)
        assert statuses(ann, first, second, ann.run()) == ["in_progress", "queued", "in_progress"]
        ann.post(f"/threads/{first['thread_id']}/runs/{first['id']}/cancel")
        upstream.wait_for(lambda up: len(up.requests) == 3)
        assert statuses(ann, second) == ["in_progress"]


def test_excess_runs_are_a_429_for_their_owner_only(
    api: Callable[..., ApiClient], upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.default = lambda body: Hang()
    settings = {"API_KEYS": "ann=key-ann,bob=key-bob", "MAX_RUNS_PER_OWNER": "1", "MAX_QUEUED_RUNS_PER_OWNER": "1"}
    with ServerProcess(tmp_path, MODEL_URL=upstream.url, **settings) as server:
        ann, bob = api(server, "key-ann"), api(server, "key-bob")
        first, second = ann.run(), ann.run()
        upstream.wait_for(lambda up: len(up.requests) == 1)
        assert statuses(ann, first, second) == ["in_progress", "queued"]
        thread, assistant = ann.thread("Hi"), ann.assistant()
        refused = ann.client.post(f"/threads/{thread}/runs", json={"assistant_id": assistant, "stream": True})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "MAX_QUEUED_RUNS_PER_OWNER" in error["message"]
        assert ann.post(f"/threads/{thread}/messages", {"role": "user", "content": "free"})["id"]
        his = bob.run()
        upstream.wait_for(lambda up: len(up.requests) == 2)
        assert statuses(bob, his) == ["in_progress"]
        with (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="key-ann", max_retries=0) as client,
            pytest.warns(DeprecationWarning, match="Assistants API"),
            pytest.raises(openai.RateLimitError),
        ):
            client.beta.threads.create_and_run(assistant_id=assistant)
        ann.post(f"/threads/{first['thread_id']}/runs/{first['id']}/cancel")
        upstream.wait_for(lambda up: len(up.requests) == 3)
        assert statuses(ann, second) == ["in_progress"]
        ann.post(f"/threads/{thread}/runs", {"assistant_id": assistant})


def stalled_reader(server: ServerProcess, path: str, body: Any) -> socket.socket:
    """Request a stream and read nothing of it."""
    sent = orjson.dumps(body)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    head = f"POST /v1{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    connection.sendall(head.encode() + f"content-length: {len(sent)}\r\n\r\n".encode() + sent)
    return connection


def test_a_stalled_reader_delays_neither_its_run_nor_others(
    api: Callable[..., ApiClient], upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Each run has 5 MB of events, many times the capacity of a socket."""
    with ServerProcess(tmp_path, MODEL_URL=upstream.url) as server, contextlib.ExitStack() as stack:
        here = api(server)
        stall_readers(server, here, upstream, stack, 2)
        upstream.default = lambda body: Reply("quick")
        assert here.wait_ended(here.run())["status"] == "completed"


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_stalled_readers_do_not_fill_the_memory(
    record_property: Callable[[str, object], None],
    api: Callable[..., ApiClient],
    upstream: ScriptedUpstream,
    tmp_path: Path,
) -> None:
    """Forty runs, more than a gigabyte in all if it were kept. The first twenty set the level, which depends on how
    many answers accumulate; the others add nothing."""
    with ServerProcess(tmp_path, MODEL_URL=upstream.url) as server, contextlib.ExitStack() as stack:
        here = api(server)
        found = []
        for _ in range(10):
            stall_readers(server, here, upstream, stack, 4)
            found.append(resident_mb(server.pid))
        record_property("MB, with four more stalled readers each time", [round(mb) for mb in found])
        assert found[-1] - found[4] < 60


def stall_readers(
    server: ServerProcess, here: ApiClient, upstream: ScriptedUpstream, stack: contextlib.ExitStack, count: int
) -> None:
    """Complete runs whose readers stay connected and read nothing."""
    upstream.default = lambda body: Reply(chunks=["x" * 400] * 10_000)
    assistant = here.assistant()
    threads = [here.thread("Hi") for _ in range(count)]
    for thread in threads:
        stack.enter_context(
            stalled_reader(server, f"/threads/{thread}/runs", {"assistant_id": assistant, "stream": True})
        )
    complete(here, threads)


def complete(here: ApiClient, threads: list[str]) -> None:
    end = time.monotonic() + 40
    for thread in threads:
        while not (runs := here.get(f"/threads/{thread}/runs")["data"]) or runs[0]["status"] != "completed":
            assert time.monotonic() < end, runs
            time.sleep(0.05)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_thousands_of_queued_runs_use_bounded_memory_and_fair_order(
    record_property: Callable[[str, object], None],
    api: Callable[..., ApiClient],
    upstream: ScriptedUpstream,
    tmp_path: Path,
) -> None:
    """Ten owners, the first of whom queues as many runs as one of several can; then a restart, after which all runs
    complete."""
    executing, others = 8, 250
    greedy = 7_500 + executing * 3 // 4
    upstream.default = lambda body: Hang()
    owners = [f"owner{number}" for number in range(10)]
    keys = ",".join(f"{owner}=key-{owner}" for owner in owners)
    settings = {"API_KEYS": keys, "MAX_RUNS": str(executing), "RUN_EXPIRY_S": "86400", "MODEL_URL": upstream.url}
    with ServerProcess(tmp_path, **settings) as server:
        harnesses = {owner: api(server, f"key-{owner}") for owner in owners}
        assistants = {owner: one.assistant() for owner, one in harnesses.items()}
        mine = [owners[0]] * greedy + [owner for owner in owners[1:] for _ in range(others)]
        before = resident_mb(server.pid)
        for owner in mine:
            body = {"assistant_id": assistants[owner], "thread": {"messages": [{"role": "user", "content": owner}]}}
            harnesses[owner].post("/threads/runs", body)
        queued_mb = resident_mb(server.pid) - before
        body = {"assistant_id": assistants[owners[0]]}
        assert harnesses[owners[0]].client.post("/threads/runs", json=body).status_code == 429
        server.terminate()
        server.wait(30)
        upstream.default = lambda body: Reply("done")
        seen_before, start = len(upstream.requests), time.monotonic()
        server.start()
        upstream.wait_for(lambda up: len(up.requests) >= seen_before + len(mine), timeout_s=600)
        took_s = time.monotonic() - start
        after_mb = resident_mb(server.pid)
    order = [seen.body["messages"][-1]["content"] for seen in upstream.requests[seen_before:]]
    record_property("queued", f"{len(mine)} in {queued_mb:.0f} MB")
    record_property("worked off", f"in {took_s:.0f} s, then {after_mb:.0f} MB in all")
    assert Counter(order) == Counter(mine)
    assert queued_mb < 60
    for start in range(100, 1_500, 100):  # the first ones run concurrently
        shares = Counter(order[start : start + 100])
        assert min(shares[owner] for owner in owners) >= 7, shares


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_thousand_concurrent_streams_each_get_everything(
    record_property: Callable[[str, object], None],
    api: Callable[..., ApiClient],
    upstream: ScriptedUpstream,
    tmp_path: Path,
) -> None:
    """Each stream stalls in the middle of its answer until all are open, however long that takes on a busy machine."""
    upstream.default = lambda body: Reply(chunks=["x"] * 10, delay_s=0.5, pause_after=6)  # the first chunk has the role
    with ServerProcess(tmp_path, MODEL_URL=upstream.url) as server:
        here = api(server)
        assistant = here.assistant()
        threads = [here.thread("Hi") for _ in range(1_000)]
        with contextlib.ExitStack() as stack:
            body = {"assistant_id": assistant, "stream": True}
            streams = [stack.enter_context(stalled_reader(server, f"/threads/{one}/runs", body)) for one in threads]
            halves = [read_until(stream, lambda got: got.count(DELTA) == 5) for stream in streams]
            assert upstream.open_streams == 1_000
            peak = resident_mb(server.pid)
            upstream.release()
            for stream, half in zip(streams, halves, strict=True):
                assert (half + read_until(stream, lambda got: b"data: [DONE]" in got)).count(DELTA) == 10
        record_property("MB, 1,000 streams", round(peak))
        assert peak < 600


def read_until(stream: socket.socket, enough: Callable[[bytes], bool]) -> bytes:
    """Read a stream until the condition holds, for at most a minute; idle streams are pinged, so silence is no
    limit."""
    stream.settimeout(60)
    end, got = time.monotonic() + 60, b""
    while not enough(got):
        piece = stream.recv(65_536)
        assert piece, got
        assert time.monotonic() < end, got
        got += piece
    return got
