"""Files with two servers on one store: no file is swept too early, and concurrent additions are all kept."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.process import ServerProcess
from tests.processes.conftest import Two, sharing_server


def add_file(server: ServerProcess, content: str = "Cats purr.") -> str:
    """Upload a file and return its id."""
    files = {"file": ("a.txt", content.encode())}
    answer = httpx2.post(f"{server.url}/v1/files", data={"purpose": "assistants"}, files=files, timeout=30)
    assert answer.status_code == 200, answer.text
    id: str = answer.json()["id"]
    return id


def concurrently(calls: list[Callable[[], Any]]) -> list[Any]:
    """Make these calls at the same time, and return their results."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def test_an_upload_in_progress_survives_the_start_of_another_server(own_two: Two) -> None:
    go_on = threading.Event()
    boundary = "b0und"
    head = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    )

    def body() -> Iterator[bytes]:
        yield head.encode() + b"x" * 3_000_000
        go_on.wait(30)
        yield b"y" * 1000 + f"\r\n--{boundary}--\r\n".encode()

    def send() -> httpx2.Response:
        kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
        return httpx2.post(f"{own_two.b.url}/v1/files", content=body(), headers=kind, timeout=40)

    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(send)
        time.sleep(0.5)
        own_two.a.terminate()  # so that the next one sweeps
        own_two.a.wait(20)
        with sharing_server(own_two.b.log.parent, own_two.upstream):
            go_on.set()
            answer = sent.result()
    assert answer.status_code == 200, answer.text
    content = httpx2.get(f"{own_two.b.url}/v1/files/{answer.json()['id']}/content")
    assert content.content == b"x" * 3_000_000 + b"y" * 1000


@pytest.mark.parametrize("threads", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_attachments_at_both_make_one_vector_store_with_all_files(two: Two, threads: int) -> None:
    for _ in range(threads):
        thread = two.a.request("POST", "/v1/threads", {})["id"]
        servers = [(two.a, two.b)[number % 2] for number in range(6)]
        files = [add_file(server, f"Cat {number}.") for number, server in enumerate(servers)]

        def attach(server: ServerProcess, file: str, thread: str = thread) -> None:
            attachment = {"file_id": file, "tools": [{"type": "file_search"}]}
            message = {"role": "user", "content": "Look.", "attachments": [attachment]}
            server.request("POST", f"/v1/threads/{thread}/messages", message)

        concurrently([lambda s=s, f=f: attach(s, f) for s, f in zip(servers, files, strict=True)])  # type: ignore[misc]
        (store,) = two.b.request("GET", f"/v1/threads/{thread}")["tool_resources"]["file_search"]["vector_store_ids"]
        assert in_store(two.b, store) == dict.fromkeys(files, "completed")
        assert len(two.a.request("GET", f"/v1/threads/{thread}/messages")["data"]) == 6


def in_store(server: ServerProcess, store: str) -> dict[str, str]:
    """Return the statuses of a vector store's files, once none is in progress."""
    end = time.monotonic() + 60
    while True:
        listed = server.request("GET", f"/v1/vector_stores/{store}/files?limit=100")["data"]
        found = {each["id"]: each["status"] for each in listed}
        if "in_progress" not in found.values() or time.monotonic() > end:
            return found
        time.sleep(0.1)


def test_parts_sent_to_both_are_all_kept(two: Two) -> None:
    asked = {"purpose": "user_data", "filename": "a.txt", "bytes": 8, "mime_type": "text/plain"}
    upload = two.a.request("POST", "/v1/uploads", asked)["id"]

    def add(number: int) -> str:
        server = (two.a, two.b)[number % 2]
        files = {"data": ("part", str(number).encode())}
        answer = httpx2.post(f"{server.url}/v1/uploads/{upload}/parts", files=files, timeout=20)
        assert answer.status_code == 200, answer.text
        id: str = answer.json()["id"]
        return id

    parts = concurrently([lambda n=n: add(n) for n in range(8)])  # type: ignore[misc]
    done = two.b.request("POST", f"/v1/uploads/{upload}/complete", {"part_ids": parts})
    assert done["status"] == "completed"
    assert httpx2.get(f"{two.a.url}/v1/files/{done['file']['id']}/content").content == b"01234567"


def test_files_added_at_one_are_found_at_the_other(two: Two) -> None:
    files = [add_file(two.a, f"Cat {number}.") for number in range(10)]
    store = two.a.request("POST", "/v1/vector_stores", {"file_ids": files})["id"]
    assert in_store(two.b, store) == dict.fromkeys(files, "completed")
    for server in (two.a, two.b):
        answer = server.request("POST", f"/v1/vector_stores/{store}/search", {"query": "cat", "max_num_results": 20})
        assert {each["file_id"] for each in answer["data"]} == set(files)
    two.b.request("DELETE", f"/v1/vector_stores/{store}/files/{files[0]}")
    answer = two.a.request("POST", f"/v1/vector_stores/{store}/search", {"query": "cat", "max_num_results": 20})
    assert {each["file_id"] for each in answer["data"]} == set(files[1:])
