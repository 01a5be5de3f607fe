"""Two owners on one server: whatever load the first one causes, the second one is answered soon.

The time limits allow for a busy machine: without fair scheduling, each of these would take ten times longer.
"""

import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx2
import pytest

from tests.api.conftest import ApiClient, client_of
from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream

SOON_S = 5.0
LIMITS = httpx2.Limits(max_connections=200)
SENTENCE = "The quick brown fox jumps over the lazy dog while seven wizards quietly mix a strange potion. "


@pytest.fixture(scope="module")
def server(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"API_KEYS": "ann=key-ann,bob=key-bob", "ACTIONS_ALLOW_HOSTS": "127.0.0.1", "ACTION_TIMEOUT_S": "4"}
    with ServerProcess(tmp_path_factory.mktemp("two"), MODEL_URL=upstream.url, **settings) as process:
        yield process


@pytest.fixture
def ann(server: ServerProcess) -> Iterator[ApiClient]:
    with client_of(server, "key-ann", timeout=60, limits=LIMITS) as made:
        yield ApiClient(made)


@pytest.fixture
def bob(server: ServerProcess) -> Iterator[ApiClient]:
    with client_of(server, "key-bob", timeout=60, limits=LIMITS) as made:
        yield ApiClient(made)


@contextmanager
def flood(what: Callable[[], Any], times: int) -> Iterator[None]:
    """Call `what` in `times` threads, repeatedly until the block ends."""
    over = threading.Event()

    def again() -> None:
        while not over.is_set():
            with suppress(httpx2.HTTPError):
                what()

    with ThreadPoolExecutor(times) as threads:
        for _ in range(times):
            threads.submit(again)
        try:
            time.sleep(1)
            yield
        finally:
            over.set()


@contextmanager
def host(answer: bytes) -> Iterator[str]:
    """Serve an API that answers each request with these bytes, or never if there are none."""
    with socket.create_server(("127.0.0.1", 0), backlog=500) as listening:
        kept: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    kept.append(listening.accept()[0])
                    if answer:
                        kept[-1].recv(65_536)
                        kept[-1].sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for each in kept:
            each.close()


def store(api: ApiClient, text: str, **fields: Any) -> str:
    made: str = api.post("/vector_stores", {"file_ids": [api.file(text)], **fields})["id"]
    return made


def action(api: ApiClient, url: str) -> str:
    paths = {"/go": {"get": {"operationId": "go", "responses": {"200": {"description": "Done"}}}}}
    spec = {"openapi": "3.0.3", "info": {"title": "x", "version": "1"}, "servers": [{"url": url}], "paths": paths}
    return api.assistant(tools=[{"type": "action", "data": {"openapi_spec": spec}}])


def took(work: Callable[[], Any]) -> float:
    since = time.monotonic()
    work()
    return time.monotonic() - since


def test_a_silent_api_delays_no_other_owner(ann: ApiClient, bob: ApiClient, upstream: ScriptedUpstream) -> None:
    upstream.default = lambda body: (
        Reply("Done") if body["messages"][-1]["role"] == "tool" else Reply(tool_calls=[("go", {})] * 8)
    )
    ok = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    with host(b"") as silent, host(ok) as quick:
        anns, bobs = action(ann, silent), action(bob, quick)

        def run(api: ApiClient, assistant: str) -> dict[str, Any]:
            thread = {"messages": [{"role": "user", "content": "Go"}]}
            made: dict[str, Any] = api.post("/threads/runs", {"assistant_id": assistant, "thread": thread})
            return made

        runs = [run(ann, anns) for _ in range(26)]
        time.sleep(1)
        assert took(lambda: bob.wait_ended(run(bob, bobs))) < SOON_S
        own = action(ann, quick)
        assert took(lambda: ann.wait_ended(run(ann, own))) < SOON_S, "another host of the same owner"
        ended = ann.wait_ended(runs[-1])
        assert ended["status"] == "completed"
        steps = ann.get(f"/threads/{ended['thread_id']}/runs/{ended['id']}/steps")["data"]
        assert json.dumps(steps).count("4 seconds") == 8, "waiting for the host counts as well"


def test_a_small_file_is_indexed_while_large_ones_are(ann: ApiClient, bob: ApiClient) -> None:
    smallest = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50}}
    large = store(ann, SENTENCE * 20_000, chunking_strategy=smallest)
    store(ann, SENTENCE * 20_001, chunking_strategy=smallest)
    time.sleep(2)
    since = time.monotonic()
    small = store(bob, "Cats purr when they are glad, and sleep long hours.")
    assert bob.wait_processed(f"/vector_stores/{small}")["file_counts"]["completed"] == 1
    assert time.monotonic() - since < 2 * SOON_S
    found = bob.post(f"/vector_stores/{small}/search", {"query": "glad cats"})
    assert found["data"]
    assert ann.get(f"/vector_stores/{large}")["file_counts"]["in_progress"] == 1
    for each in ann.get("/vector_stores")["data"]:
        ann.delete(f"/vector_stores/{each['id']}")


@contextmanager
def kept_alive(server: ServerProcess, head: str, connections: int) -> Iterator[None]:
    """Send this request repeatedly on so many connections until the block ends."""
    request = f"{head}\r\nHost: localhost\r\n\r\n".encode()
    over = threading.Event()

    def repeat() -> None:
        with selectors.DefaultSelector() as selector, ExitStack() as stack:
            for _ in range(connections):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
                selector.register(connection, selectors.EVENT_READ)
                connection.sendall(request)
            while not over.is_set():
                for key, _ in selector.select(0.1):
                    assert isinstance(key.fileobj, socket.socket)
                    key.fileobj.recv(65536)
                    key.fileobj.sendall(request)

    with ThreadPoolExecutor(1) as thread:
        repeating = thread.submit(repeat)
        try:
            time.sleep(2)
            yield
            assert not repeating.done()
        finally:
            over.set()


@pytest.mark.parametrize(
    "key", ["Authorization: Bearer key-ann", "X-Key: none"], ids=["unknown paths", "without a key"]
)
def test_requests_for_the_event_loop_only_delay_no_other_owner(server: ServerProcess, bob: ApiClient, key: str) -> None:
    thread = bob.thread("x")
    with kept_alive(server, f"GET /v1/nothing HTTP/1.1\r\n{key}", 300):
        waits = sorted(took(lambda: bob.get(f"/threads/{thread}")) for _ in range(3))
    assert waits[1] < SOON_S / 5


FLOODS: dict[str, tuple[str, Any, int]] = {
    "embeddings": ("/embeddings", {"model": "all-MiniLM-L6-v2-int8", "input": [SENTENCE * 20] * 200}, 8),
    "long texts": ("/embeddings", {"model": "all-MiniLM-L6-v2-int8", "input": SENTENCE * 20_000}, 8),
    "searches": ("/vector_stores/{store}/search", {"query": ["purring " * 500] * 8, "max_num_results": 50}, 24),
    "bodies": ("/threads", {"messages": [{"role": "user", "content": "x" * 250_000}] * 16}, 16),
}


@pytest.mark.soak
@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_one_owner_does_not_stop_another(name: str, ann: ApiClient, bob: ApiClient) -> None:
    path, body, times = FLOODS[name]
    stores = {}
    for api in (ann, bob):
        stores[api] = store(api, SENTENCE * 100)
        assert api.wait_processed(f"/vector_stores/{stores[api]}")["status"] == "completed"
    data = json.dumps(body)
    path = path.replace("{store}", stores[ann])
    with flood(
        lambda: ann.client.post(path, content=data, headers={"Content-Type": "application/json"}, timeout=2), times
    ):
        search = f"/vector_stores/{stores[bob]}/search"
        waits = sorted(took(lambda: bob.post(search, {"query": "a lazy fox"})) for _ in range(3))
        large = sorted(took(lambda: bob.thread("y" * 20_000)) for _ in range(3))
    assert waits[1] < SOON_S
    assert large[1] < SOON_S
