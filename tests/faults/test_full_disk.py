"""Reserved space: uploads leave it free, deletions use it, and deletions work on a disk that something else filled."""

import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from store.free_space import MIN_FREE_BYTES, RESERVE_BYTES, free_bytes
from store.sqlite.disk_reserve import DISK_RESERVE_BYTES
from tests.faults import disks
from tests.faults.test_disk import check_refusal, fill_by_messages, streaming_run, take_next_turn, waiting_run
from tests.process import ROOT, ServerProcess
from tests.upstream import ScriptedUpstream

DISK_BYTES = 120_000_000

BLOCK_BYTES = 65_536
"""The reserve takes released space back in blocks of this size, and leaves what is smaller."""


class Small(disks.Small):
    """A server on a small disk, with the requests that fill and free it."""

    @property
    def reserve(self) -> Path:
        """The file whose space deletions use."""
        return self.disk.seen / "threadhold.db.reserve"

    def upload(self, size: int, *, chunked: bool = False) -> httpx2.Response:
        """Upload a file, with its length or without."""
        head = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        head += b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        body = head + b"x" * size + b"\r\n--b--\r\n"
        blocks = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
        return httpx2.post(
            f"{self.server.url}/v1/files",
            content=blocks if chunked else body,
            headers={"Content-Type": "multipart/form-data; boundary=b"},
            timeout=60,
        )

    def answer(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        """Send a request, and accept any status."""
        return httpx2.request(method, f"{self.server.url}/v1{path}", json=body, timeout=30)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
def small(upstream: ScriptedUpstream, tmp_path: Path) -> Iterator[Small]:
    with Small.on_disk(tmp_path, upstream, DISK_BYTES) as made:
        yield made


def held_bytes(small: Small) -> int:
    """Return the disk space of the reserve and of the database's files together."""
    return sum(path.stat().st_blocks * 512 for path in small.disk.seen.glob("threadhold.db*"))


def fill_around_reserve(small: Small, min_bytes: int) -> int:
    """Fill the disk while the reserve is not in use; return `held_bytes` afterwards, which is at least `min_bytes`.

    A cancelled run is still committed after its answer. The reserve releases space for that, and another program that
    writes at that moment, such as this function, could take it.
    """
    limit = time.monotonic() + 60
    while True:
        with small.server.paused():
            if (held := held_bytes(small)) >= min_bytes:
                small.disk.fill()
                return held
        assert time.monotonic() < limit, f"{min_bytes - held} bytes of the reserve were taken by other programs"
        time.sleep(0.02)


def store_when_possible(small: Small, body: dict[str, Any]) -> None:
    """Create a thread in the space of deleted ones, whose messages are removed after the answer."""
    limit = time.monotonic() + 60
    while (answer := small.answer("POST", "/threads", body)).status_code != 200:
        check_refusal(answer, 507, "insufficient_storage", "full")
        assert time.monotonic() < limit
        time.sleep(0.1)


def ready(server: ServerProcess) -> int:
    time.sleep(0.6)  # an answer is shared for half a second
    return httpx2.get(f"{server.url}/ready", timeout=20).status_code


@pytest.mark.parametrize(
    "chunked",
    [pytest.param(False, id="lengths announced", marks=pytest.mark.soak), pytest.param(True, id="chunked")],
)
def test_concurrent_uploads_leave_the_reserve(small: Small, *, chunked: bool) -> None:
    """All of them can be refused: only what is written takes space, and they write at the same time."""
    assert small.upload(10_000_000, chunked=chunked).status_code == 200
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: small.upload(10_000_000, chunked=chunked), range(10)))
    for answer in answers:
        if answer.status_code != 200:
            check_refusal(answer, 507, "insufficient_storage", "nearly full")
    assert any(answer.status_code == 507 for answer in answers)
    assert free_bytes(small.disk.seen) > MIN_FREE_BYTES
    assert ready(small.server) == 200
    assert list((small.disk.seen / "files" / "incoming").iterdir()) == []
    # Claims are released: as many more uploads succeed as there is space for.
    free = free_bytes(small.disk.seen) - RESERVE_BYTES - 1_000_000
    assert free < 1_000_000 or small.upload(free // 2, chunked=chunked).status_code == 200


def test_an_announced_body_is_refused_before_it_is_sent(small: Small) -> None:
    asked = {"filename": "a.bin", "purpose": "user_data", "bytes": 900_000, "mime_type": "text/plain"}
    upload = small.server.request("POST", "/v1/uploads", asked)["id"]
    port = int(small.server.url.rpartition(":")[2])
    for path in ("/files", f"/uploads/{upload}/parts", "/audio/transcriptions"):
        with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as client:
            head = f"POST /v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000000\r\n"
            client.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 507 "), path
    assert small.upload(1000).status_code == 200


def test_uploads_and_indexes_without_space_are_refused_at_first(small: Small) -> None:
    file = small.upload(1000).json()["id"]
    store = small.server.request("POST", "/v1/vector_stores", {})["id"]
    asked = {"filename": "a.bin", "purpose": "user_data", "bytes": 60_000_000, "mime_type": "text/plain"}
    check_refusal(small.answer("POST", "/uploads", asked), 507, "insufficient_storage", "nearly full")
    leave = small.disk.seen / "other"
    leave.write_bytes(b"x" * (free_bytes(small.disk.seen) - RESERVE_BYTES + 1000))
    refused = small.answer("POST", f"/vector_stores/{store}/files", {"file_id": file})
    check_refusal(refused, 507, "insufficient_storage", "nearly full")
    small.server.request("POST", "/v1/threads")  # rows can still be written
    assert ready(small.server) == 200
    leave.unlink()
    assert small.answer("POST", f"/vector_stores/{store}/files", {"file_id": file}).status_code == 200


def test_requests_that_free_space_work_on_a_full_disk(small: Small, upstream: ScriptedUpstream) -> None:
    server = small.server
    thread, run, _ = waiting_run(server, upstream)
    cut_thread, cut_run = streaming_run(server, upstream)
    spoken = server.request("POST", "/v1/threads", {"messages": [{"role": "user", "content": "x" * 200_000}]})["id"]
    message = server.request("GET", f"/v1/threads/{spoken}/messages")["data"][0]["id"]
    files = [small.upload(1000).json()["id"]]
    stores = [server.request("POST", "/v1/vector_stores", {"file_ids": files[:1]})["id"] for _ in range(2)]
    asked = {"filename": "a.bin", "purpose": "user_data", "bytes": 9, "mime_type": "text/plain"}
    upload = server.request("POST", "/v1/uploads", asked)["id"]
    assistant = server.request("POST", "/v1/assistants", {"model": "m"})["id"]
    size, held = small.reserve.stat().st_size, 0
    for method, path in [
        ("POST", f"/threads/{thread}/runs/{run}/cancel"),
        ("POST", f"/threads/{cut_thread}/runs/{cut_run}/cancel"),
        ("DELETE", f"/threads/{spoken}/messages/{message}"),
        ("DELETE", f"/threads/{spoken}"),
        ("DELETE", f"/threads/{cut_thread}"),
        ("DELETE", f"/vector_stores/{stores[0]}/files/{files[0]}"),
        ("DELETE", f"/vector_stores/{stores[1]}"),
        ("DELETE", f"/files/{files[0]}"),
        ("POST", f"/uploads/{upload}/cancel"),
        ("DELETE", f"/assistants/{assistant}"),
    ]:
        held = fill_around_reserve(small, held - BLOCK_BYTES)
        check_refusal(fill_by_messages(server), 507, "insufficient_storage", "full")
        answer = small.answer(method, path)
        assert answer.status_code == 200, f"{method} {path}: {answer.text}"
    upstream.release()
    fill_around_reserve(small, held - BLOCK_BYTES)
    (small.disk.seen / "filler").unlink()
    take_next_turn(server, thread)
    limit = time.monotonic() + 15
    while small.reserve.stat().st_size < size:
        assert time.monotonic() < limit, "the reserve is not restored"
        server.request("POST", "/v1/threads")
        time.sleep(0.2)


def test_a_full_disk_accepts_no_part_and_cancelling_frees_space(small: Small) -> None:
    server = small.server
    asked = {"filename": "a.bin", "purpose": "user_data", "bytes": 900_000, "mime_type": "text/plain"}
    upload = server.request("POST", "/v1/uploads", asked)["id"]
    url, form = f"{server.url}/v1/uploads/{upload}/parts", {"data": ("blob", b"x" * 900_000)}
    part = httpx2.post(url, files=form, timeout=20).json()["id"]
    small.disk.fill()
    check_refusal(httpx2.post(url, files=form, timeout=20), 507, "insufficient_storage", "nearly full")
    complete = httpx2.post(f"{server.url}/v1/uploads/{upload}/complete", json={"part_ids": [part]}, timeout=20)
    check_refusal(complete, 507, "insufficient_storage", "full")
    assert list((small.disk.seen / "files" / "incoming").iterdir()) == []
    assert [path.name for path in (small.disk.seen / "files").rglob("*_*")] == [part]
    assert server.request("POST", f"/v1/uploads/{upload}/cancel")["status"] == "cancelled"
    assert [path.name for path in (small.disk.seen / "files").rglob("*_*")] == []
    server.request("POST", "/v1/threads")


@pytest.mark.soak
def test_a_database_that_filled_the_disk_accepts_rows_after_deletions(small: Small) -> None:
    """No other file is removed: the freed space is in the database's own file."""
    server = small.server
    made = []
    body = {"messages": [{"role": "user", "content": "x" * 250_000}] * 8}
    (small.disk.seen / "other").write_bytes(b"x" * (free_bytes(small.disk.seen) - 20_000_000))
    while (answer := small.answer("POST", "/threads", body)).status_code == 200:
        made.append(answer.json()["id"])
    check_refusal(answer, 507, "insufficient_storage", "full")
    for thread in made[: len(made) // 2]:
        assert small.answer("DELETE", f"/threads/{thread}").status_code == 200
    store_when_possible(small, body)
    for thread in made[len(made) // 2 :]:
        assert len(server.request("GET", f"/v1/threads/{thread}/messages")["data"]) == 8


@pytest.mark.soak
def test_a_server_starts_on_a_full_disk_and_deletes(small: Small) -> None:
    server = small.server
    threads = [server.request("POST", "/v1/threads")["id"] for _ in range(3)]
    file = small.upload(1000).json()["id"]
    server.kill()
    small.disk.fill()
    server.start()
    assert small.answer("DELETE", f"/threads/{threads[0]}").status_code == 200
    assert small.answer("DELETE", f"/files/{file}").status_code == 200
    server.terminate()
    assert server.wait(15) == 0
    small.disk.fill()
    server.start()
    assert small.answer("DELETE", f"/threads/{threads[1]}").status_code == 200
    (small.disk.seen / "filler").unlink()
    assert server.request("GET", f"/v1/threads/{threads[2]}")["id"] == threads[2]
    server.request("POST", "/v1/threads")
    server.terminate()
    server.wait(15)
    with closing(sqlite3.connect(small.disk.seen / "threadhold.db")) as database:
        assert database.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)


@pytest.mark.soak
def test_commands_read_and_prune_on_a_full_disk(small: Small, tmp_path: Path) -> None:
    server = small.server
    for _ in range(3):
        server.request("POST", "/v1/threads")
    server.terminate()
    server.wait(15)
    small.disk.fill()
    for words, expected in [
        (["export", "-"], '"object":"thread"'),
        (["prune", "--older-than", "0.0002h"], "deleted 3 threads"),
    ]:
        done = subprocess.run(
            [*small.disk.before, sys.executable, str(ROOT / "server.py"), *words],
            env={"DATA_DIR": str(tmp_path / "disk")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
    server.start()


READER = """
import sqlite3, sys
reader = sqlite3.connect(sys.argv[1], isolation_level=None)
reader.execute("BEGIN")
print(reader.execute("SELECT count(*) FROM threads").fetchone()[0], flush=True)
sys.stdin.read()
"""


@contextmanager
def reading(small: Small) -> Iterator[None]:
    """Another program that is in the middle of reading the database."""
    command = [*small.disk.before, sys.executable, "-c", READER, str(small.disk.path / "threadhold.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert int(reader.stdout.readline()) > 0
        yield
        reader.communicate(timeout=10)


@pytest.mark.soak
def test_a_log_kept_by_a_reader_leaves_space_for_the_file(small: Small) -> None:
    """The log cannot be truncated during a read: it grows with each row, and the file will need as much space."""
    server = small.server
    body = {"messages": [{"role": "user", "content": "x" * 250_000}] * 8}
    made = [server.request("POST", "/v1/threads", body)["id"] for _ in range(3)]
    with reading(small):
        while (answer := small.answer("POST", "/threads", body)).status_code == 200:
            made.append(answer.json()["id"])
        check_refusal(answer, 507, "insufficient_storage", "full")
        assert len(made) > 10
        for thread in made[::2]:
            assert small.answer("DELETE", f"/threads/{thread}").status_code == 200
    store_when_possible(small, body)
    for thread in made[1::2]:
        assert len(server.request("GET", f"/v1/threads/{thread}/messages")["data"]) == 8


@pytest.mark.soak
def test_a_thread_larger_than_the_reserve_can_be_deleted(small: Small) -> None:
    server = small.server
    body = {"messages": [{"role": "user", "content": "x" * 250_000}] * 8}
    thread = server.request("POST", "/v1/threads", body)["id"]
    for _ in range(150):
        server.request("POST", f"/v1/threads/{thread}/messages", body["messages"][0])
    assert (small.disk.seen / "threadhold.db").stat().st_size > 2 * DISK_RESERVE_BYTES
    small.disk.fill()
    check_refusal(fill_by_messages(server), 507, "insufficient_storage", "full")
    assert small.answer("DELETE", f"/threads/{thread}").status_code == 200
    store_when_possible(small, body)


def test_a_disk_that_fills_during_a_run_ends_only_it(small: Small, upstream: ScriptedUpstream) -> None:
    thread, run = streaming_run(small.server, upstream)
    small.disk.fill()
    fill_by_messages(small.server)
    upstream.release()
    limit = time.monotonic() + 60
    while (status := small.server.request("GET", f"/v1/threads/{thread}/runs/{run}")["status"]) == "in_progress":
        assert time.monotonic() < limit, "the run hangs"
        time.sleep(0.1)
    assert status in ("failed", "completed")
    (small.disk.seen / "filler").unlink()
    take_next_turn(small.server, thread)
    assert json.loads(httpx2.get(f"{small.server.url}/health", timeout=10).content)
