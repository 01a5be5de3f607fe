"""Model calls outside runs are scheduled fairly, and packed URLs are limited; each owner has one share."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import httpx2
import pytest
from langserve.lzstring import LZString

from tests.process import ServerProcess
from tests.upstream import Fail, Reply, ScriptedUpstream


@pytest.fixture(scope="module")
def _hanging() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
def hanging(_hanging: ScriptedUpstream) -> ScriptedUpstream:
    """A separate upstream without recorded requests, because these tests leave its requests hanging."""
    _hanging.requests.clear()
    return _hanging


@pytest.fixture(scope="module")
def start(
    _hanging: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., ServerProcess]]:
    """Start a server with these settings, or return the one that has them."""
    with ExitStack() as stack:
        started: dict[str, ServerProcess] = {}

        def start_once(**settings: str) -> ServerProcess:
            name = str(settings)
            if name not in started:
                made = ServerProcess(tmp_path_factory.mktemp("limited"), MODEL_URL=_hanging.url, **settings)
                started[name] = stack.enter_context(made)
            return started[name]

        yield start_once


def asked(path: str, texts: list[str]) -> list[dict[str, Any]]:
    return [{"human": text} if path == "/chat" else {"content": text} for text in texts]


def post(server: ServerProcess, path: str, body: Any, key: str = "any") -> httpx2.Response:
    return httpx2.post(f"{server.url}{path}", json=body, headers={"authorization": f"Bearer {key}"}, timeout=60)


@pytest.mark.parametrize("path", ["/chat", "/assistant"])
def test_inputs_of_all_batches_of_an_owner_take_turns(
    path: str, hanging: ScriptedUpstream, start: Callable[..., ServerProcess]
) -> None:
    """Both batches together never exceed the owner's share of model calls, and another owner is served."""
    settings = {"API_KEYS": "ann=key-ann,bob=key-bob", "MAX_RUNS_PER_OWNER": "3"}
    server = start(**settings)
    hanging.default = lambda body: Reply(chunks=["a", "b"], pause_after=1)
    answers: list[httpx2.Response] = []
    bodies = [{"inputs": asked(path, [f"{name} {n}" for n in range(8)])} for name in ("one", "two")]
    threads = [
        threading.Thread(target=lambda body=body: answers.append(post(server, f"{path}/batch", body, "key-ann")))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    hanging.wait_for(lambda up: len(up.requests) >= 3)
    time.sleep(0.5)
    assert len(hanging.requests) == 3
    hanging.default = lambda body: Reply("done")
    bob = post(server, f"{path}/invoke", {"input": asked(path, ["hello"])[0]}, "key-bob")
    assert (bob.status_code, "done" in bob.text) == (200, True)
    hanging.release()
    for thread in threads:
        thread.join(60)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [len(answer.json()["output"]) for answer in answers] == [8, 8]


@pytest.mark.parametrize("path", ["/chat", "/assistant"])
def test_a_batch_takes_no_more_turns_than_runs_are_allowed(
    path: str, hanging: ScriptedUpstream, start: Callable[..., ServerProcess]
) -> None:
    server = start(MAX_RUNS="2")
    hanging.default = lambda body: Reply(chunks=["a", "b"], pause_after=1)
    body = {"inputs": asked(path, [f"n{n}" for n in range(20)])}
    thread = threading.Thread(target=post, args=(server, f"{path}/batch", body))
    thread.start()
    hanging.wait_for(lambda up: len(up.requests) >= 2)
    time.sleep(0.5)
    assert len(hanging.requests) == 2
    hanging.default = lambda body: Reply("done")
    hanging.release()
    thread.join(60)
    assert len(hanging.requests) == 20


def test_a_batch_whose_client_left_makes_no_more_calls(
    hanging: ScriptedUpstream, start: Callable[..., ServerProcess]
) -> None:
    server = start(MAX_RUNS="2")
    hanging.default = lambda body: Reply(chunks=["a", "b"], pause_after=1)
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(f"{server.url}/chat/batch", json={"inputs": asked("/chat", ["n"] * 20)}, timeout=2)
    hanging.release()
    time.sleep(0.5)
    assert len(hanging.requests) == 2
    hanging.default = lambda body: Reply("done")
    assert post(server, "/chat/batch", {"inputs": asked("/chat", ["n"])}).json()["output"] == ["done"]


@pytest.mark.parametrize("path", ["/chat", "/assistant"])
def test_a_batch_beyond_its_limit_is_refused(path: str, server: ServerProcess, upstream: ScriptedUpstream) -> None:
    before = len(upstream.requests)
    refused = post(server, f"{path}/batch", {"inputs": asked(path, ["a"] * 201)})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "array_above_max_length", "inputs")
    assert "maximum length 200," in error["message"]
    configs = post(server, f"{path}/batch", {"inputs": asked(path, ["a"]), "config": [{}] * 201})
    assert (configs.status_code, configs.json()["error"]["param"]) == (400, "config")
    assert len(upstream.requests) == before
    assert post(server, f"{path}/batch", {"inputs": []}).status_code == 200


def test_outputs_of_a_batch_keep_the_order_of_its_inputs(server: ServerProcess) -> None:
    texts = [f"number {n}" for n in range(50)]
    made = post(server, "/chat/batch", {"inputs": asked("/chat", texts)}).json()["output"]
    assert made == [f"Echo: {text}" for text in texts]


def test_a_failed_input_does_not_affect_the_others(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.default = lambda body: Fail(400) if "bad" in str(body["messages"]) else Reply("fine")
    made = post(server, "/chat/batch", {"inputs": asked("/chat", ["good", "bad", "good"])})
    assert made.status_code == 200
    assert [output == "fine" for output in made.json()["output"]] == [True, False, True]


def test_a_client_cannot_set_its_own_turns(server: ServerProcess) -> None:
    body = {"inputs": asked("/chat", ["a"]), "config": {"configurable": {"__batch_slots": 1, "__owner": "x"}}}
    assert post(server, "/chat/batch", body).status_code in (200, 400, 422)


# --- single calls -----------------------------------------------------------------------------------------------------

CALLS = {
    **{f"/chat/{way}": {"input": {"human": "n"}} for way in ("invoke", "stream", "stream_log", "stream_events")},
    "/chat/c/N4XyA/invoke": {"input": {"human": "n"}},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "n"}], "stream": True},
    "/chat/completions": {"messages": [{"role": "user", "content": "n"}], "stream": True},
}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, ScriptedUpstream]]:
    """A server with two turns and four positions in the queue."""
    with ScriptedUpstream() as scripted:
        settings = {"MODEL_URL": scripted.url, "MAX_RUNS": "2", "MAX_QUEUED_RUNS": "4"}
        with ServerProcess(tmp_path_factory.mktemp("busy"), **settings) as server:
            yield server, scripted


class Callers:
    """Callers in threads. The first two have a turn after construction, and keep it until `answer`."""

    def __init__(self, busy: tuple[ServerProcess, ScriptedUpstream], path: str, count: int) -> None:
        self._server, self._upstream = busy
        self._path = path
        self._before = len(self._upstream.requests)
        self.answers: list[httpx2.Response] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        self._upstream.default = lambda body: Reply(chunks=["a", "b"], pause_after=1)
        for thread in self._threads:
            thread.start()
        self._upstream.wait_for(lambda up: len(up.requests) >= self._before + 2)
        time.sleep(0.3)

    def _ask(self) -> None:
        self.answers.append(post(self._server, self._path, CALLS[self._path]))

    @property
    def at_model(self) -> int:
        """Return how many requests the model has received."""
        return len(self._upstream.requests) - self._before

    def answer(self) -> None:
        """Let the model answer, and wait for all callers."""
        self._upstream.default = lambda body: Reply("done")
        self._upstream.release()
        for thread in self._threads:
            thread.join(60)


@pytest.mark.parametrize("path", CALLS)
def test_many_calls_take_turns(path: str, busy: tuple[ServerProcess, ScriptedUpstream]) -> None:
    """At most MAX_RUNS calls are at the model; calls beyond the queue get 429, and all others an answer."""
    callers = Callers(busy, path, 6)
    assert callers.at_model == 2
    beyond = post(busy[0], path, CALLS[path])
    assert (beyond.status_code, beyond.json()["error"]["type"]) == (429, "rate_limit_error")
    assert int(beyond.headers["retry-after"]) > 0
    callers.answer()
    assert [answer.status_code for answer in callers.answers] == [200] * 6
    assert callers.at_model == 6


@pytest.mark.parametrize("path", CALLS)
def test_a_client_that_leaves_frees_its_turn(path: str, busy: tuple[ServerProcess, ScriptedUpstream]) -> None:
    """In the queue: the model is not called. At the model: the turn is free again."""
    server, upstream = busy
    callers = Callers(busy, path, 2)
    for _ in range(6):  # more than the queue's size
        leave(server, path, lambda: time.sleep(0.1))
    assert callers.at_model == 2
    callers.answer()
    upstream.default = lambda body: Reply(chunks=["a", "b"], pause_after=1)
    for number in range(3):
        leave(server, path, lambda count=number: upstream.wait_for(lambda _: callers.at_model == 3 + count))  # type: ignore[misc]
    assert callers.at_model == 5
    upstream.default = lambda body: Reply("done")
    assert post(server, path, CALLS[path]).status_code == 200
    assert callers.at_model == 6


def leave(server: ServerProcess, path: str, arrived: Callable[[], None]) -> None:
    """Send a request and disconnect once it has arrived."""
    body = json.dumps(CALLS[path]).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        arrived()
    time.sleep(0.05)  # until the server has noticed


@pytest.mark.parametrize("path", ["/chat/invoke", "/v1/chat/completions"])
def test_owners_take_turns_at_calls(path: str, hanging: ScriptedUpstream, start: Callable[..., ServerProcess]) -> None:
    """Bob's only call is next, however many calls of Ann's came before it."""
    server = start(MAX_RUNS="1", API_KEYS="ann=key-ann,bob=key-bob")
    hanging.default = lambda body: Reply(chunks=["a", "b"], pause_after=1)
    answered: list[str] = []

    def ask(owner: str) -> None:
        assert post(server, path, CALLS[path], f"key-{owner}").status_code == 200
        answered.append(owner)

    threads = [threading.Thread(target=ask, args=(owner,)) for owner in ("ann", "ann", "ann", "ann", "bob")]
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    hanging.default = lambda body: Reply("done")
    hanging.release()
    for thread in threads:
        thread.join(60)
    assert "bob" in answered[:3]
    assert len(answered) == 5


def test_calls_of_one_owner_are_limited(hanging: ScriptedUpstream, start: Callable[..., ServerProcess]) -> None:
    settings = {"API_KEYS": "ann=key-ann,bob=key-bob", "MAX_RUNS_PER_OWNER": "1", "MAX_QUEUED_RUNS_PER_OWNER": "1"}
    server = start(**settings)
    hanging.default = lambda body: Reply(chunks=["a", "b"], pause_after=1)
    body = CALLS["/chat/invoke"]
    threads = [threading.Thread(target=post, args=(server, "/chat/invoke", body, "key-ann")) for _ in range(2)]
    for thread in threads:
        thread.start()
    hanging.wait_for(lambda up: len(up.requests) >= 1)
    time.sleep(0.3)
    beyond = post(server, "/chat/invoke", body, "key-ann")
    assert (beyond.status_code, "MAX_QUEUED_RUNS_PER_OWNER" in beyond.text) == (429, True)
    hanging.default = lambda body: Reply("done")
    assert post(server, "/chat/invoke", body, "key-bob").json()["output"] == "done"
    hanging.release()
    for thread in threads:
        thread.join(60)


# --- configurations in URLs -------------------------------------------------------------------------------------------

SMALL = LZString.compressToEncodedURIComponent('{"configurable":{"model":"m","temperature":0.5}}')


@cache
def bomb() -> str:
    """Return 4 MB, packed."""
    return LZString.compressToEncodedURIComponent('{"configurable":{"a":"' + "a" * 4_000_000 + '"}}')


SHOWN = ("input_schema", "output_schema", "config_schema", "playground/index.html")


@pytest.mark.parametrize("path", ["/chat", "/assistant"])
@pytest.mark.parametrize("end", [*SHOWN, "invoke", "batch", "stream", "stream_log"])
def test_a_packed_configuration_in_a_url_is_limited(path: str, end: str, server: ServerProcess) -> None:
    assert len(bomb()) > 2_048
    with httpx2.Client(base_url=server.url, timeout=20) as client:
        method = "GET" if end in SHOWN else "POST"
        body = None if end in SHOWN else {"input": asked(path, ["a"])[0], "inputs": asked(path, ["a"])}
        refused = client.request(method, f"{path}/c/{bomb()}/{end}", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "config_hash")
        if path == "/chat" and end != "batch":
            assert client.request(method, f"{path}/c/{SMALL}/{end}", json=body).status_code == 200


@pytest.mark.parametrize("pack", [bomb, lambda: SMALL], ids=["bomb", "small"])
def test_a_packed_configuration_in_a_body_is_refused(pack: Callable[[], str], server: ServerProcess) -> None:
    for config in (pack(), [pack()]):
        refused = post(server, "/chat/batch", {"inputs": asked("/chat", ["a"]), "config": config})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_type")
