"""Runs with two servers on one store: each run is executed once, by one server, and both answer for it."""

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.process import ServerProcess
from tests.processes.conftest import LEASE_S, Two, suspended
from tests.test_crash import TIME, events_of
from tests.upstream import Reply

pytestmark = pytest.mark.timeout(360)

WORDS = [f"w{number} " for number in range(12)]
Event = tuple[int, str, Any]


def create_thread(server: ServerProcess, **fields: Any) -> tuple[str, str]:
    """Create an assistant and a thread with one message; returns (thread id, assistant id)."""
    assistant = server.request("POST", "/v1/assistants", {"model": "m", **fields})
    thread = server.request("POST", "/v1/threads", {"messages": [{"role": "user", "content": "Hello"}]})
    return thread["id"], assistant["id"]


def start(server: ServerProcess, **fields: Any) -> dict[str, Any]:
    """Start a run on a new thread."""
    thread, assistant = create_thread(server, **fields)
    run: dict[str, Any] = server.request("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})
    return run


def path(run: dict[str, Any]) -> str:
    """Return the path of a run."""
    return f"/v1/threads/{run['thread_id']}/runs/{run['id']}"


def status(server: ServerProcess, run: dict[str, Any]) -> str:
    """Return a run's status."""
    found: str = server.request("GET", path(run))["status"]
    return found


def until(condition: Callable[[], Any], limit_s: float = 90.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.02)


def events(server: ServerProcess, run: dict[str, Any], after: int = -1) -> list[Event]:
    """Follow a run until it pauses or ends."""
    with httpx2.stream("GET", f"{server.url}{path(run)}/events?after={after}", timeout=30) as answer:
        assert answer.status_code == 200, answer.read()
        return list(events_of(answer))


def text_of(seen: list[Event]) -> str:
    """Return the text of the deltas."""
    deltas = [data["delta"]["content"] for _, name, data in seen if name == "thread.message.delta"]
    return "".join(part["text"]["value"] for parts in deltas for part in parts)


def messages(server: ServerProcess, run: dict[str, Any]) -> list[str]:
    """Return the texts of the assistant's messages."""
    found = server.request("GET", f"/v1/threads/{run['thread_id']}/messages")["data"]
    return ["".join(part["text"]["value"] for part in each["content"]) for each in found if each["role"] == "assistant"]


def check_log(seen: list[Event], run: dict[str, Any], end: str) -> None:
    """Check that the log has one end, which is its last event, and that numbers increase."""
    numbers = [number for number, *_ in seen]
    assert numbers == sorted(set(numbers))
    of_run = [name for _, name, data in seen if data.get("id") == run["id"]]
    assert of_run[-1] == f"thread.run.{end}"
    assert of_run.count(f"thread.run.{end}") == 1


def test_many_runs_of_both_servers_are_executed_once(two: Two) -> None:
    runs = [start((two.a, two.b)[number % 2]) for number in range(12)]
    for number, run in enumerate(runs):
        asked = (two.b, two.a)[number % 2]
        until(lambda asked=asked, run=run: status(asked, run) == "completed")
        assert messages(asked, run) == ["Echo: Hello"]
    assert len(two.upstream.requests) == len(runs)


def test_a_run_is_followed_from_the_other_server(two: Two) -> None:
    two.upstream.script(Reply(chunks=WORDS, pause_after=3))
    run = start(two.a)
    seen: list[Event] = []
    follower = threading.Thread(target=lambda: seen.extend(events(two.b, run)))
    follower.start()
    until(lambda: two.upstream.requests)
    time.sleep(1.0)
    assert follower.is_alive()
    two.upstream.release()
    follower.join(20)
    check_log(seen, run, "completed")
    assert text_of(seen) == "".join(WORDS)
    assert seen == events(two.a, run)


def test_a_cancel_at_the_other_server_closes_the_upstream(two: Two) -> None:
    two.upstream.script(Reply(chunks=WORDS, pause_after=3))
    run = start(two.a)
    until(lambda: two.upstream.requests)
    assert two.b.request("POST", f"{path(run)}/cancel")["status"] == "cancelling"
    since = time.monotonic()
    until(lambda: two.upstream.closed_early, 5)
    assert time.monotonic() - since < 1.5
    until(lambda: status(two.b, run) == "cancelled")
    seen = events(two.b, run)
    check_log(seen, run, "cancelled")
    assert [name for _, name, data in seen if data.get("id") == run["id"]][-2:] == [
        "thread.run.cancelling",
        "thread.run.cancelled",
    ]
    again = httpx2.post(f"{two.b.url}{path(run)}/cancel")
    assert again.status_code == 400


def test_a_waiting_run_is_cancelled_by_any_server(two: Two) -> None:
    two.upstream.script(Reply(tool_calls=[("getTime", "{}")]))
    run = start(two.a, tools=[TIME])
    until(lambda: status(two.b, run) == "requires_action")
    two.b.request("POST", f"{path(run)}/cancel")
    assert status(two.a, run) == "cancelled"
    check_log(events(two.a, run), run, "cancelled")


def test_outputs_submitted_to_both_are_accepted_once(two: Two) -> None:
    for _ in range(4):
        two.upstream.script(Reply(tool_calls=[("getTime", "{}")]), Reply("It is noon."))
        run = start(two.a, tools=[TIME])
        until(lambda run=run: status(two.b, run) == "requires_action")
        (call,) = two.a.request("GET", path(run))["required_action"]["submit_tool_outputs"]["tool_calls"]
        body = {"tool_outputs": [{"tool_call_id": call["id"], "output": "noon"}]}
        answers: list[int] = []

        def submit(server: ServerProcess, run: Any = run, body: Any = body, answers: list[int] = answers) -> None:
            answers.append(
                httpx2.post(f"{server.url}{path(run)}/submit_tool_outputs", json=body, timeout=20).status_code
            )

        both = [threading.Thread(target=submit, args=(server,)) for server in (two.a, two.b)]
        for each in both:
            each.start()
        for each in both:
            each.join(20)
        assert sorted(answers) == [200, 400]
        until(lambda run=run: status(two.a, run) == "completed")
        assert messages(two.b, run) == ["It is noon."]
        check_log(events(two.a, run), run, "completed")
    assert len(two.upstream.requests) == 8


def test_a_thread_deleted_at_the_other_server_stops_its_run(two: Two) -> None:
    two.upstream.script(Reply(chunks=WORDS, pause_after=3))
    run = start(two.a)
    until(lambda: two.upstream.requests)
    two.b.request("DELETE", f"/v1/threads/{run['thread_id']}")
    until(lambda: two.upstream.closed_early, 5)
    assert httpx2.get(two.a.url + path(run)).status_code == 404


def test_a_killed_server_s_runs_are_continued_by_the_other(own_two: Two) -> None:
    words = ["It", " is", " noon."]
    own_two.upstream.script(Reply(chunks=words, pause_after=2), Reply(chunks=words))
    run = start(own_two.a)
    until(lambda: own_two.upstream.requests)
    time.sleep(0.5)
    own_two.a.kill()
    since = time.monotonic()
    until(lambda: status(own_two.b, run) == "completed")
    assert 0.5 < time.monotonic() - since < 12
    assert messages(own_two.b, run) == ["It is noon."]
    check_log(events(own_two.b, run), run, "completed")
    assert len(own_two.upstream.requests) == 2
    own_two.a.start()
    assert status(own_two.a, run) == "completed"


def test_a_stopped_server_hands_its_runs_over(own_two: Two) -> None:
    own_two.upstream.script(Reply(chunks=WORDS, pause_after=2), Reply("Done."))
    run = start(own_two.a)
    until(lambda: own_two.upstream.requests)
    own_two.a.terminate()
    own_two.a.wait(10)
    since = time.monotonic()
    until(lambda: status(own_two.b, run) == "completed")
    assert time.monotonic() - since < LEASE_S
    assert messages(own_two.b, run) == ["Done."]


def test_a_resumed_server_writes_nothing_that_another_continues(own_two: Two) -> None:
    own_two.upstream.script(Reply(chunks=WORDS, pause_after=2), Reply("Done by B."))
    run = start(own_two.a)
    until(lambda: own_two.upstream.requests)
    with suspended(own_two.a):
        until(lambda: status(own_two.b, run) == "completed")
        own_two.upstream.release()  # the rest of the answer waits for A in its socket
    until(lambda: "registers again" in own_two.a.log.read_text())
    until(lambda: start_if_accepted(own_two.a))
    assert status(own_two.b, run) == "completed"
    assert messages(own_two.a, run) == ["Done by B."]
    check_log(events(own_two.a, run), run, "completed")
    assert len(own_two.upstream.requests) == 3


def test_a_suspended_machine_s_runs_continue_once(own_two: Two) -> None:
    own_two.upstream.script(Reply(chunks=WORDS, pause_after=2), Reply("Done."))
    run = start(own_two.a)
    until(lambda: own_two.upstream.requests)
    with suspended(own_two.a, own_two.b):
        time.sleep(LEASE_S + 1)
    until(lambda: status(own_two.b, run) == "completed")
    assert messages(own_two.a, run) == ["Done."]
    check_log(events(own_two.a, run), run, "completed")
    assert len(own_two.upstream.requests) == 2


def start_if_accepted(server: ServerProcess) -> bool:
    """Return whether a server accepts writes."""
    answer = httpx2.post(f"{server.url}/v1/threads/runs", json={"assistant_id": assistant_of(server)}, timeout=20)
    return answer.status_code == 200


def assistant_of(server: ServerProcess) -> str:
    """Return the id of an assistant."""
    found: str = server.request("GET", "/v1/assistants")["data"][0]["id"]
    return found


def test_two_servers_by_accident_get_a_clear_error(two: Two) -> None:
    settings = {"MODEL_URL": two.upstream.url}
    third = ServerProcess(two.a.log.parent, **settings)
    with pytest.raises(AssertionError, match="is in use by another process"):
        third.start()
    third.kill()
