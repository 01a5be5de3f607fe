"""Programs that use a server which can die at any moment: each continues after failures, and records the server's
promises.

A promise is a response with status 200. A request without a response can have taken effect or not; nothing is expected
of it.
"""

import itertools
import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.process import ServerProcess
from tests.test_crash import TIME, events_of
from tests.upstream import Reply, Step

__all__ = ["ANSWER", "HABITS", "OUTPUT", "Program", "Promises", "model"]

ANSWER = "one two three four five six"
OUTPUT = "noon"
_TURN_S = 5.0
_numbers = itertools.count()


def model(body: dict[str, Any]) -> Step:
    """Call a function once and then answer, or answer directly."""
    if body.get("tools") and body["messages"][-1]["role"] != "tool":
        return Reply("Let me see.", tool_calls=[("getTime", {})], delay_s=0.01)
    return Reply(ANSWER, delay_s=0.02)


@dataclass
class Promises:
    """What the server has acknowledged; keys of `runs` are (thread id, run id)."""

    messages: dict[tuple[str, str], str] = field(default_factory=dict)
    """(thread id, message id) → its text."""
    runs: set[tuple[str, str]] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    """Runs whose tool outputs were taken."""
    deleted: set[str] = field(default_factory=set)
    """Threads."""
    seen: dict[str, list[tuple[int, str, Any]]] = field(default_factory=dict)
    """Events that a stream brought, by run."""

    def merge(self, other: "Promises") -> None:
        """Add another program's promises."""
        self.messages |= other.messages
        self.runs |= other.runs
        self.cancelled |= other.cancelled
        self.answered |= other.answered
        self.deleted |= other.deleted
        self.seen |= other.seen

    def forget(self, thread: str) -> None:
        """Drop the promises of a thread whose deletion was requested, whether or not that is answered."""
        self.messages = {key: text for key, text in self.messages.items() if key[0] != thread}
        self.runs = {key for key in self.runs if key[0] != thread}


class Program(threading.Thread):
    """Runs turns in sequence: a thread, a message, a run, and what its habit does with it."""

    def __init__(self, server: ServerProcess, habit: str, seed: int) -> None:
        super().__init__(daemon=True, name=f"program-{habit}")
        self.promises = Promises()
        self.stopped = threading.Event()
        self.defects: list[str] = []
        """Answers that no client should get."""
        self._server = server
        self._habit = habit
        self._chance = random.Random(seed)

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                with httpx2.Client(base_url=f"{self._server.url}/v1", timeout=_TURN_S) as client:
                    self._turn(client)
            except (httpx2.TransportError, json.JSONDecodeError):
                time.sleep(0.05)

    def _post(self, client: httpx2.Client, path: str, body: Any) -> Any:
        """Return the body of the response, None unless its status is 200."""
        answer = client.post(path, json=body)
        if answer.status_code not in (200, 400, 404, 503):
            self.defects.append(f"{path}: {answer.status_code} {answer.text[:200]}")
        return answer.json() if answer.status_code == 200 else None

    def _turn(self, client: httpx2.Client) -> None:
        tools = [TIME] if self._habit in ("answers", "streams") else []
        assistant = self._post(client, "/assistants", {"model": "m", "tools": tools})
        thread = self._post(client, "/threads", {})
        if assistant is None or thread is None:
            return
        for _ in range(2):
            text = f"Hi {next(_numbers)}"
            path = f"/threads/{thread['id']}/messages"
            message = self._post(client, path, {"role": "user", "content": text})
            if message is not None:
                self.promises.messages[thread["id"], message["id"]] = text
            if self._habit == "streams":
                run = self._stream(client, f"/threads/{thread['id']}/runs", {"assistant_id": assistant["id"]})
            else:
                run = self._post(client, f"/threads/{thread['id']}/runs", {"assistant_id": assistant["id"]})
            if run is None:
                return
            self.promises.runs.add((thread["id"], run["id"]))
            getattr(self, f"_{self._habit}")(client, run)

    # --- habits -------------------------------------------------------------------------------------------------------

    def _polls(self, client: httpx2.Client, run: dict[str, Any]) -> dict[str, Any] | None:
        """Fetch the run until it pauses or ends; None when it did neither in time."""
        end = time.monotonic() + _TURN_S
        while time.monotonic() < end:
            answer = client.get(f"/threads/{run['thread_id']}/runs/{run['id']}")
            body: dict[str, Any] = answer.json()
            if answer.status_code == 200 and body["status"] not in ("queued", "in_progress", "cancelling"):
                return body
            time.sleep(0.03)
        return None

    def _answers(self, client: httpx2.Client, run: dict[str, Any]) -> None:
        """Submit the outputs that the run waits for, and wait for its end."""
        waiting = self._polls(client, run)
        if waiting is not None and waiting["status"] == "requires_action":
            path = f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
            if self._post(client, path, outputs(waiting)) is not None:
                self.promises.answered.add(run["id"])
                self._polls(client, run)

    def _streams(self, client: httpx2.Client, run: dict[str, Any]) -> None:
        """Submit the outputs in a stream as well."""
        last = self.promises.seen[run["id"]][-1]
        if last[1] == "thread.run.requires_action":
            path = f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
            if self._stream(client, path, outputs(last[2])) is not None:
                self.promises.answered.add(run["id"])

    def _cancels(self, client: httpx2.Client, run: dict[str, Any]) -> None:
        time.sleep(self._chance.uniform(0, 0.15))
        if self._post(client, f"/threads/{run['thread_id']}/runs/{run['id']}/cancel", {}) is not None:
            self.promises.cancelled.add(run["id"])
        self._polls(client, run)

    def _deletes(self, client: httpx2.Client, run: dict[str, Any]) -> None:
        time.sleep(self._chance.uniform(0, 0.15))
        self.promises.forget(run["thread_id"])
        answer = client.delete(f"/threads/{run['thread_id']}")
        if answer.status_code == 200:
            self.promises.deleted.add(run["thread_id"])

    def _stream(self, client: httpx2.Client, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Read events to the end or the interruption; returns the run of the first event."""
        run: dict[str, Any] | None = None
        try:
            with client.stream("POST", path, json={**body, "stream": True}) as answer:
                if answer.status_code != 200:
                    return None
                for event in events_of(answer):
                    if run is None:
                        run = event[2]
                    if event[1] != "error":
                        self.promises.seen.setdefault(run["id"], []).append(event)
        except httpx2.TransportError:
            if run is None:
                raise
        return run


HABITS = ("polls", "answers", "streams", "streams", "cancels", "deletes")


def outputs(run: dict[str, Any]) -> dict[str, Any]:
    """Return outputs for all calls that a run waits for."""
    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    return {"tool_outputs": [{"tool_call_id": call["id"], "output": OUTPUT} for call in calls]}


def stop_all(programs: Sequence[Program], limit_s: float) -> Promises:
    """Stop programs, and return all of their promises."""
    for program in programs:
        program.stopped.set()
    promises = Promises()
    for program in programs:
        program.join(limit_s)
        assert not program.defects
        promises.merge(program.promises)
    return promises
