"""SIGKILL during indexing or uploads, and a restart: acknowledged work is finished, and nothing partial remains."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.process import ServerProcess

pytestmark = pytest.mark.timeout(270)


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("data"), MODEL_URL="http://127.0.0.1:9/v1")
    yield process
    process.kill()


@pytest.fixture
def server(_server: ServerProcess) -> ServerProcess:
    """A running server without files or models; each test kills it and starts it again."""
    _server.start_again()
    for file in _server.request("GET", "/v1/files")["data"]:
        _server.request("DELETE", f"/v1/files/{file['id']}")
    return _server


def kept_files(server: ServerProcess) -> list[Path]:
    """Return the files in the server's file folder."""
    return [path for path in (server.log.parent / "files").rglob("*") if path.is_file()]


def upload(server: ServerProcess, said: str, name: str) -> str:
    answer = httpx2.post(
        f"{server.url}/v1/files", files={"file": (name, said.encode())}, data={"purpose": "assistants"}, timeout=20
    )
    assert answer.status_code == 200, answer.text
    made: str = answer.json()["id"]
    return made


def wait_processed(server: ServerProcess, path: str) -> Any:
    end = time.monotonic() + 60
    while (found := server.request("GET", path))["status"] == "in_progress" and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_a_batch_resumes_after_crashes(server: ServerProcess) -> None:
    texts = ["".join(f"<p>Cat {number} purrs {times} times.</p>" for times in range(80)) for number in range(6)]
    files = [upload(server, text, f"{number}.html") for number, text in enumerate(texts)]
    store = server.request("POST", "/v1/vector_stores", {})["id"]
    batch = server.request("POST", f"/v1/vector_stores/{store}/file_batches", {"file_ids": files})
    path = f"/v1/vector_stores/{store}/file_batches/{batch['id']}"
    seen = []
    for pause_s in (0.1, 0.5):
        time.sleep(pause_s)
        server.kill()
        server.start()
        seen.append(httpx2.get(server.url + path, timeout=30).json()["file_counts"]["completed"])
    assert seen[0] < 6, "the server was killed after the batch was complete"
    done = wait_processed(server, path)
    assert done["file_counts"] == {"in_progress": 0, "completed": 6, "failed": 0, "cancelled": 0, "total": 6}
    found = server.request("POST", f"/v1/vector_stores/{store}/search", {"query": "cat", "max_num_results": 50})
    hits = [(hit["file_id"], hit["content"][0]["text"]) for hit in found["data"]]
    assert {file for file, _ in hits} == set(files)
    assert len(hits) == len(set(hits))


def test_a_partial_upload_leaves_no_file_after_a_crash(server: ServerProcess) -> None:
    kept = upload(server, "Cats purr.", "a.txt")
    head = (
        "POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
        'Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; '
        'filename="x"\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + b"x" * 5_000_000)
        incoming = server.log.parent / "files" / "incoming"
        end = time.monotonic() + 60
        while not any(path.stat().st_size for path in incoming.iterdir()) and time.monotonic() < end:
            time.sleep(0.02)
        assert list(incoming.iterdir())
        server.kill()
    server.start()
    listed = httpx2.get(f"{server.url}/v1/files", timeout=30).json()["data"]
    assert [one["id"] for one in listed] == [kept]
    assert list(incoming.iterdir()) == []
    assert [path.name for path in kept_files(server)] == [kept]


def test_acknowledged_upload_parts_survive_a_crash(server: ServerProcess) -> None:
    asked = {"filename": "a.txt", "purpose": "user_data", "bytes": 200_000, "mime_type": "text/plain"}
    upload = server.request("POST", "/v1/uploads", asked)["id"]
    parts = []
    for number in range(2):
        form = {"data": ("blob", bytes([number]) * 100_000)}
        answer = httpx2.post(f"{server.url}/v1/uploads/{upload}/parts", files=form, timeout=20)
        parts.append(answer.json()["id"])
        server.kill()
        server.start()
    file = server.request("POST", f"/v1/uploads/{upload}/complete", {"part_ids": parts})["file"]["id"]
    server.kill()
    server.start()
    content = httpx2.get(f"{server.url}/v1/files/{file}/content", timeout=30).content
    assert content == b"".join(bytes([number]) * 100_000 for number in range(2))
    assert [path.name for path in kept_files(server)] == [file]


@pytest.mark.parametrize(
    "pause_s", [0.1, *(pytest.param(pause_s, marks=pytest.mark.soak) for pause_s in (0.0, 0.02, 0.3))]
)
def test_a_crash_during_completion_leaves_an_upload_pending_or_completed(server: ServerProcess, pause_s: float) -> None:
    size = 16_000_000
    asked = {"filename": "a.bin", "purpose": "user_data", "bytes": size, "mime_type": "text/plain"}
    upload = server.request("POST", "/v1/uploads", asked)["id"]
    form = {"data": ("blob", b"x" * size)}
    part = httpx2.post(f"{server.url}/v1/uploads/{upload}/parts", files=form, timeout=20).json()["id"]
    path = f"{server.url}/v1/uploads/{upload}/complete"

    def complete() -> httpx2.Response | None:
        try:
            return httpx2.post(path, json={"part_ids": [part]}, timeout=30)
        except httpx2.TransportError:
            return None

    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(complete)
        time.sleep(pause_s)
        server.kill()
        asking.result()
    server.start()
    kept = sorted(path.name for path in kept_files(server))
    listed = [one["id"] for one in httpx2.get(f"{server.url}/v1/files", timeout=30).json()["data"]]
    assert kept == (listed or [part]), "neither or both of file and part exist"
    file = server.request("POST", f"/v1/uploads/{upload}/complete", {"part_ids": [part]})["file"]
    assert (file["bytes"], listed in ([], [file["id"]])) == (size, True)
