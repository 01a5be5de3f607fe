"""After SIGKILL and a restart, nothing acknowledged is lost or duplicated, and ids stay the same.

The upstream runs in this process; the server is a separate process with a real database file.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import httpx2
import pytest

from tests.graphs.tools.apis import Answer, Api, Seen, document
from tests.process import ServerProcess
from tests.upstream import Raw, Reply, ScriptedUpstream

TIME: dict[str, Any] = {"type": "function", "function": {"name": "getTime", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def _upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
def upstream(_upstream: ScriptedUpstream) -> ScriptedUpstream:
    """An upstream with an empty script and no recorded requests."""
    _upstream.forget()
    return _upstream


@pytest.fixture(scope="module")
def _server(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"MODEL_URL": _upstream.url, "DRAIN_S": "0.5", "ACTIONS_ALLOW_HOSTS": "127.0.0.1"}
    process = ServerProcess(tmp_path_factory.mktemp("data"), **settings)
    yield process
    process.kill()


@pytest.fixture
def server(_server: ServerProcess) -> ServerProcess:
    """A running server; each test kills it and starts it again."""
    return _server.start_again()


def create_thread(server: ServerProcess, **fields: Any) -> tuple[str, str]:
    """Create an assistant and a thread with one message; returns (thread id, assistant id)."""
    assistant = server.request("POST", "/v1/assistants", {"model": "m", **fields})
    thread = server.request("POST", "/v1/threads", {"messages": [{"role": "user", "content": "Hello"}]})
    return thread["id"], assistant["id"]


def stream(server: ServerProcess, path: str, body: Any, until: str, count: int = 1) -> list[tuple[int, str, Any]]:
    """Post, read events up to the `count`th of that name, and disconnect."""
    seen: list[tuple[int, str, Any]] = []
    with httpx2.stream("POST", server.url + path, json=body, timeout=10) as answer:
        assert answer.status_code == 200, answer.read()
        for event in events_of(answer):
            seen.append(event)
            if sum(name == until for _, name, _ in seen) == count:
                break
    return seen


def events_of(answer: httpx2.Response) -> Iterator[tuple[int, str, Any]]:
    number, name = -1, ""
    for line in answer.iter_lines():
        key, _, value = line.partition(": ")
        if key == "id":
            number = int(value)
        elif key == "event":
            name = value
        elif key == "data" and name != "done":
            yield number, name, json.loads(value)


def replay(server: ServerProcess, thread: str, run: str, after: int = -1) -> list[tuple[int, str, Any]]:
    url = f"{server.url}/v1/threads/{thread}/runs/{run}/events?after={after}"
    with httpx2.stream("GET", url, timeout=20) as answer:
        assert answer.status_code == 200
        return list(events_of(answer))


def wait_for_run(server: ServerProcess, thread: str, run: str, *statuses: str) -> Any:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        body = server.request("GET", f"/v1/threads/{thread}/runs/{run}")
        if body["status"] in statuses:
            return body
        time.sleep(0.02)
    raise AssertionError(f"the run is {body['status']}, last_error {body['last_error']}")


def text_of(events: list[tuple[int, str, Any]]) -> str:
    return "".join(
        data["delta"]["content"][0]["text"]["value"] for _, name, data in events if name == "thread.message.delta"
    )


def items(server: ServerProcess, thread: str) -> list[str]:
    """Return the types of a thread's items, in order."""
    sql = "SELECT json_extract(body, '$.type') FROM items WHERE thread_id = ? ORDER BY seq"
    with closing(sqlite3.connect(server.log.parent / "threadhold.db")) as store:
        return [kind for (kind,) in store.execute(sql, (thread,))]


def messages(server: ServerProcess, thread: str) -> list[Any]:
    listed: list[Any] = server.request("GET", f"/v1/threads/{thread}/messages?order=asc")["data"]
    return listed


def test_an_interrupted_reply_restarts_with_the_same_ids(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("one two three four", pause_after=4), Reply("five six"))
    thread, assistant = create_thread(server)
    body = {"assistant_id": assistant, "stream": True}
    seen = stream(server, f"/v1/threads/{thread}/runs", body, "thread.message.delta", 3)
    run = seen[0][2]["id"]
    server.kill()
    server.start()
    wait_for_run(server, thread, run, "completed")
    later = replay(server, thread, run, after=seen[-1][0])
    assert later[0][1] == "threadhold.reset"
    before = {data["id"] for _, name, data in seen if name.startswith("thread.message.")}
    after = {data["id"] for _, name, data in later if name.startswith("thread.message.")}
    assert before == after
    assert before <= set(later[0][2]["message_ids"])
    events = replay(server, thread, run)
    numbers = [number for number, _, _ in events]
    assert numbers == sorted(set(numbers))
    assert [name for _, name, _ in events].count("thread.message.created") == 1
    assert text_of(events) == "five six"
    stored = messages(server, thread)
    assert [message["role"] for message in stored] == ["user", "assistant"]
    assert stored[1]["content"][0]["text"]["value"] == "five six"
    assert stored[1]["id"] in before
    server.request("POST", f"/v1/threads/{thread}/messages", {"role": "user", "content": "next"})


@pytest.mark.parametrize("tools", [[], [TIME]], ids=["without tools", "with tools"])
def test_many_interrupted_runs_complete_after_a_crash(
    server: ServerProcess, upstream: ScriptedUpstream, tools: list[Any]
) -> None:
    count = 12  # more than the runs that keep their graph while they reply
    upstream.script(*[Reply("one two three", pause_after=2)] * count, *[Reply("four five")] * count)
    assistant = server.request("POST", "/v1/assistants", {"model": "m", "tools": tools})["id"]
    body = {"assistant_id": assistant, "thread": {"messages": [{"role": "user", "content": "Hello"}]}}
    runs = [server.request("POST", "/v1/threads/runs", body) for _ in range(count)]
    for run in runs:
        url = f"{server.url}/v1/threads/{run['thread_id']}/runs/{run['id']}/events?after=-1"
        with httpx2.stream("GET", url, timeout=20) as answer:
            assert any(name == "thread.message.delta" for _, name, _ in events_of(answer))
    server.kill()
    server.start()
    for run in runs:
        wait_for_run(server, run["thread_id"], run["id"], "completed")
        events = replay(server, run["thread_id"], run["id"])
        assert text_of(events) == "four five"
        assert [name for _, name, _ in events].count("thread.message.created") == 1
        stored = messages(server, run["thread_id"])
        assert [message["content"][0]["text"]["value"] for message in stored] == ["Hello", "four five"]


def test_event_numbers_increase_across_a_crash(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("x " * 200, pause_after=151), Reply("y " * 3, pause_after=3), Reply("z"))
    thread, assistant = create_thread(server)
    seen = stream(
        server, f"/v1/threads/{thread}/runs", {"assistant_id": assistant, "stream": True}, "thread.message.delta", 150
    )
    run = seen[0][2]["id"]
    highest = seen[-1][0]
    for _ in range(2):
        server.kill()
        server.start()
        with httpx2.stream(
            "GET", f"{server.url}/v1/threads/{thread}/runs/{run}/events?after={highest}", timeout=20
        ) as answer:
            number = next(number for number, name, _ in events_of(answer) if name == "thread.message.delta")
        assert number > highest
        highest = number
    wait_for_run(server, thread, run, "completed")
    assert text_of(replay(server, thread, run)) == "z"


def test_requires_action_survives_a_crash(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getTime", {})]), Reply("It is noon."))
    thread, assistant = create_thread(server, tools=[TIME])
    run = server.request("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})["id"]
    waiting = wait_for_run(server, thread, run, "requires_action")
    server.kill()
    server.start()
    again = server.request("GET", f"/v1/threads/{thread}/runs/{run}")
    assert again == waiting
    call = again["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"]
    outputs = {"tool_outputs": [{"tool_call_id": call, "output": "noon"}]}
    server.request("POST", f"/v1/threads/{thread}/runs/{run}/submit_tool_outputs", outputs)
    wait_for_run(server, thread, run, "completed")
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("calls_seen", [1, 2], ids=["before the model is called", "during the model call"])
def test_acknowledged_tool_outputs_reach_the_model_after_a_crash(
    server: ServerProcess, upstream: ScriptedUpstream, calls_seen: int
) -> None:
    call = {"id": "", "function": {"name": "getTime", "arguments": "{}"}, "extra_content": {"signature": "c2ln"}}
    delta = {"reasoning_content": "I must look it up.", "tool_calls": [call]}
    thinking = json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]}).encode()
    upstream.script(Raw([b"data: " + thinking + b"\n\n"]), *[Reply("It is noon.", start_s=0.5)] * 2)
    thread, assistant = create_thread(server, tools=[TIME])
    run = server.request("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})["id"]
    waiting = wait_for_run(server, thread, run, "requires_action")
    call_id = waiting["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"]
    outputs = {"tool_outputs": [{"tool_call_id": call_id, "output": "noon"}]}
    server.request("POST", f"/v1/threads/{thread}/runs/{run}/submit_tool_outputs", outputs)
    upstream.wait_for(lambda up: len(up.requests) >= calls_seen, 5)
    server.kill()
    server.start()
    wait_for_run(server, thread, run, "completed")
    turn, output = upstream.requests[-1].body["messages"][-2:]
    assert (output["content"], output["tool_call_id"]) == ("noon", turn["tool_calls"][0]["id"])
    assert turn["reasoning_content"] == "I must look it up."
    assert turn["tool_calls"][0]["extra_content"] == {"signature": "c2ln"}
    steps = server.request("GET", f"/v1/threads/{thread}/runs/{run}/steps?order=asc")["data"]
    assert [step["status"] for step in steps] == ["completed", "completed"]
    assert steps[0]["step_details"]["tool_calls"][0]["function"]["output"] == "noon"
    assert len(messages(server, thread)) == 2
    assert items(server, thread) == ["reasoning", "function_call", "function_call_output"]


def test_a_recorded_action_is_not_called_again_after_a_crash(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    """Of two calls of one turn, only the unanswered one is repeated, under its Idempotency-Key."""
    quick, slow = threading.Event(), threading.Event()

    def respond(seen: Seen) -> Answer:
        if seen.path == "/slow" and not slow.is_set():
            quick.wait(5)
            time.sleep(0.4)  # the quick action's answer is stored by now
            slow.set()
            killed.wait(10)
        quick.set()
        return Answer(body=b'"fine"')

    killed = threading.Event()
    upstream.script(Reply(tool_calls=[("quick", {}), ("slow", {})]), Reply("Both done."))
    with Api(respond) as api:
        paths = {"/quick": {"post": {"operationId": "quick"}}, "/slow": {"post": {"operationId": "slow"}}}
        action = {"type": "action", "data": {"openapi_spec": document(api.url, paths)}}
        thread, assistant = create_thread(server, tools=[action])
        run = server.request("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})["id"]
        assert slow.wait(10)
        server.kill()
        killed.set()
        server.start()
        wait_for_run(server, thread, run, "completed")
        keys = [(seen.path, seen.headers["Idempotency-Key"]) for seen in api.seen]
        assert [path for path, _ in keys].count("/quick") == 1
        assert len({key for path, key in keys if path == "/slow"}) == 1
        assert [path for path, _ in keys].count("/slow") == 2
    assert len(upstream.requests) == 2
    steps = server.request("GET", f"/v1/threads/{thread}/runs/{run}/steps?order=asc")["data"]
    assert [step["status"] for step in steps] == ["completed", "completed"]
    assert all(call["function"]["output"] for call in steps[0]["step_details"]["tool_calls"])
    assert [name for _, name, _ in replay(server, thread, run)].count("thread.run.step.created") == 2
    assert items(server, thread) == ["function_call"] * 2 + ["function_call_output"] * 2


def test_an_acknowledged_cancel_survives_a_crash(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("one two three", pause_after=2))
    thread, assistant = create_thread(server)
    body = {"assistant_id": assistant, "stream": True}
    seen = stream(server, f"/v1/threads/{thread}/runs", body, "thread.message.delta")
    run = seen[0][2]["id"]
    server.request("POST", f"/v1/threads/{thread}/runs/{run}/cancel")
    server.kill()
    server.start()
    wait_for_run(server, thread, run, "cancelled")
    said = messages(server, thread)[1]
    assert said["incomplete_details"] == {"reason": "run_cancelled"}
    assert said["content"][0]["text"]["value"] == text_of(replay(server, thread, run)) == "one"


def test_sigterm_lets_a_short_run_finish(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("one two three", delay_s=0.05))
    thread, assistant = create_thread(server)
    run = server.request("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})["id"]
    server.terminate()
    assert server.wait(5) == 0
    server.start()
    assert server.request("GET", f"/v1/threads/{thread}/runs/{run}")["status"] == "completed"
    assert len(upstream.requests) == 1


def test_sigterm_parks_a_long_run_and_the_next_start_resumes_it(
    server: ServerProcess, upstream: ScriptedUpstream
) -> None:
    upstream.script(Reply("one two three", pause_after=2), Reply("four"))
    thread, assistant = create_thread(server)
    body = {"assistant_id": assistant, "stream": True}
    with (
        suppress(httpx2.TransportError),
        httpx2.stream("POST", f"{server.url}/v1/threads/{thread}/runs", json=body, timeout=10) as answer,
    ):
        names = []
        for number, name, data in events_of(answer):
            if number == 0:
                run = data["id"]
            names.append(name)
            if name == "thread.message.delta":
                server.terminate()
    assert names[-1] == "error"
    assert server.wait(5) == 0
    assert upstream.open_streams == 0
    server.start()
    wait_for_run(server, thread, run, "completed")
    assert [message["role"] for message in messages(server, thread)] == ["user", "assistant"]
