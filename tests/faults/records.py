"""Checks a server's records after faults: every promise is kept, nothing is duplicated, every thread accepts a next
turn."""

from typing import Any

import httpx2

from tests.faults.programs import ANSWER, OUTPUT, Promises
from tests.process import ServerProcess
from tests.test_crash import messages, replay, text_of, wait_for_run

__all__ = ["check_records", "check_run"]

_ENDS = ("completed", "requires_action", "cancelled")


def check_records(server: ServerProcess, promises: Promises) -> dict[str, int]:
    """Check everything; returns the counts."""
    for thread in promises.deleted:
        assert httpx2.get(f"{server.url}/v1/threads/{thread}", timeout=30).status_code == 404
    for (thread, id), text in promises.messages.items():
        message = server.request("GET", f"/v1/threads/{thread}/messages/{id}")
        assert message["content"][0]["text"]["value"] == text
    ends = dict.fromkeys(_ENDS, 0)
    for thread, run in promises.runs:
        ends[check_run(server, thread, run, promises)] += 1
    for thread in {thread for thread, _ in promises.runs}:
        _check_thread(server, thread, promises)
    counted = {"messages": len(promises.messages), "runs": len(promises.runs), "deletions": len(promises.deleted)}
    return {**counted, "streams": len(promises.seen), **ends}


def check_run(server: ServerProcess, thread: str, run: str, promises: Promises) -> str:
    """Check one run, its events, steps and messages; returns its status."""
    body = wait_for_run(server, thread, run, *_ENDS)
    if run in promises.cancelled:
        assert body["status"] == "cancelled"
    log = replay(server, thread, run)
    numbers = [number for number, _, _ in log]
    assert numbers == sorted(set(numbers))
    created = [data["id"] for _, name, data in log if name.endswith((".message.created", ".step.created"))]
    assert len(created) == len(set(created))
    _check_seen(log, promises.seen.get(run, []))
    content = [one for one in messages(server, thread) if one["role"] == "assistant" and one["run_id"] == run]
    assert len(content) == len({one["id"] for one in content}) <= 2
    assert "".join(part["text"]["value"] for one in content for part in one["content"]) == text_of(log)
    steps = server.request("GET", f"/v1/threads/{thread}/runs/{run}/steps")["data"]
    if body["status"] == "completed":
        assert {one["status"] for one in content} == {"completed"}
        assert content[-1]["content"][0]["text"]["value"] == ANSWER
        assert {step["status"] for step in steps} == {"completed"}
    if run in promises.answered:
        calls = [call for step in steps for call in step["step_details"].get("tool_calls", ())]
        assert [call["function"]["output"] for call in calls] == [OUTPUT]
    status: str = body["status"]
    return status


def _check_seen(log: list[tuple[int, str, Any]], seen: list[tuple[int, str, Any]]) -> None:
    """Check that events a reader received are in the log or were taken back by a later reset, and no number is used
    twice."""
    stands = {number: (name, data) for number, name, data in log}
    resets = [(number, {*data["message_ids"], *data["step_ids"]}) for number, name, data in log if "reset" in name]
    for number, name, data in seen:
        if number in stands:
            assert stands[number] == (name, data)
        else:
            taken_back = any(number < at and data["id"] in ids for at, ids in resets)
            # A run that had just been resumed can have lost that event: it is resumed once more.
            assert taken_back or name == "thread.run.in_progress", (number, name, data, log)


def _check_thread(server: ServerProcess, thread: str, promises: Promises) -> None:
    """Check that the user messages are complete, in order and unique, and that the thread accepts another unless its
    run waits."""
    texts = [text for (of, _), text in promises.messages.items() if of == thread]
    stored = [one["content"][0]["text"]["value"] for one in messages(server, thread) if one["role"] == "user"]
    assert [text for text in stored if text in texts] == texts
    runs = server.request("GET", f"/v1/threads/{thread}/runs")["data"]
    waits = any(run["status"] == "requires_action" for run in runs)
    path = f"{server.url}/v1/threads/{thread}/messages"
    answer = httpx2.post(path, json={"role": "user", "content": "next"}, timeout=30)
    assert answer.status_code == (400 if waits else 200), answer.text
