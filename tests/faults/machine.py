"""A model of the API, and random clients that compare the server with it: hypothesis generates sequences of requests,
and shrinks one that differs.

The model of a run's assistant determines what the run does: "echo" answers, "calls" first requires a function's output,
"stalls" sends one word and waits until it is stopped.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx2
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from tests.faults.programs import ANSWER, OUTPUT, outputs
from tests.process import ServerProcess
from tests.test_crash import TIME, events_of, text_of
from tests.upstream import Reply, Step, echo

__all__ = ["Clients", "Thread", "check_thread", "scripted"]

ACTIVE = ("in_progress", "requires_action")
TEXTS = st.text(min_size=1, max_size=40).filter(lambda text: text.strip() and "<" not in text)
METADATA = st.dictionaries(st.sampled_from("abc"), st.text(max_size=10), max_size=2)
ROLES = st.sampled_from(["user", "user", "assistant"])


def scripted(body: dict[str, Any]) -> Step:
    """The model behind the server."""
    match body["model"]:
        case "calls":
            messages = body["messages"]  # empty if the thread is empty
            has_output = bool(messages) and messages[-1]["role"] == "tool"
            return Reply(ANSWER) if has_output else Reply(tool_calls=[("getTime", {})])
        case "stalls":
            return Reply("one two three", pause_after=2)
        case _:
            return echo(body)


@dataclass
class ExpectedMessage:
    """The expected state of a message."""

    id: str
    role: str
    text: str
    run: str | None = None
    status: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass
class ExpectedRun:
    """The expected state of a run. `spoken` is the text of its events, also when the message was deleted."""

    id: str
    kind: str
    status: str = "in_progress"
    steps: list[str] = field(default_factory=list)
    spoken: str = ""


@dataclass
class Thread:
    """The expected state of a thread."""

    id: str
    metadata: dict[str, str]
    messages: list[ExpectedMessage] = field(default_factory=list)
    runs: list[ExpectedRun] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """Ids of messages that were deleted."""

    @property
    def path(self) -> str:
        return f"/threads/{self.id}"

    @property
    def active(self) -> ExpectedRun | None:
        return next((run for run in self.runs if run.status in ACTIVE), None)


class Clients(RuleBasedStateMachine):
    """Everything that a client can do with assistants, threads, messages and runs."""

    server: ClassVar[ServerProcess]
    client: ClassVar[httpx2.Client]
    kept: ClassVar[list[Thread]]
    """Threads that were left; they have to be there still, whatever happens later."""

    assistants = Bundle("assistants")
    threads = Bundle("threads")

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Thread] = []

    # --- requests -----------------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Any = None, *, status: int = 200, error: str = "") -> Any:
        """Send one request and check its status; an error must have OpenAI's shape and contain `error`."""
        answer = self.client.request(method, path, json=body)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        result = answer.json()
        if status != 200:
            assert set(result["error"]) == {"message", "type", "param", "code"}
            assert error in result["error"]["message"]
        return result

    def follow(self, thread: Thread, run: ExpectedRun, until: str = "") -> list[tuple[int, str, Any]]:
        """Read a run's events to the pause or end, or up to the first of that name."""
        return self.stream("GET", f"{thread.path}/runs/{run.id}/events", None, until)

    def stream(self, method: str, path: str, body: Any, until: str = "") -> list[tuple[int, str, Any]]:
        seen = []
        with self.client.stream(method, path, json=body) as answer:
            assert answer.status_code == 200, answer.read()
            for event in events_of(answer):
                seen.append(event)
                if event[1] == until:
                    break
        return seen

    # --- assistants ---------------------------------------------------------------------------------------------------

    @initialize(target=assistants)
    def create_first_assistant(self) -> Any:
        return self.create_assistant("calls")

    @initialize(target=threads)
    def create_first_thread(self) -> Thread:
        return self.create_thread({}, [("user", "Hello")])

    @rule(target=assistants, kind=st.sampled_from(["echo", "calls", "stalls"]))
    def create_assistant(self, kind: str) -> Any:
        tools = [TIME] if kind == "calls" else []
        made = self.ask("POST", "/assistants", {"model": kind, "tools": tools})
        return made["id"], kind

    @rule(assistant=consumes(assistants))
    def delete_assistant(self, assistant: Any) -> None:
        assert self.ask("DELETE", f"/assistants/{assistant[0]}")["deleted"]
        self.ask("GET", f"/assistants/{assistant[0]}", status=404, error="No assistant found")
        self.ask("POST", "/threads/runs", {"assistant_id": assistant[0]}, status=404, error="No assistant found")

    # --- threads ------------------------------------------------------------------------------------------------------

    @rule(target=threads, metadata=METADATA, texts=st.lists(st.tuples(ROLES, TEXTS), max_size=3))
    def create_thread(self, metadata: dict[str, str], texts: list[tuple[str, str]]) -> Thread:
        messages = [{"role": role, "content": text} for role, text in texts]
        made = self.ask("POST", "/threads", {"metadata": metadata, "messages": messages})
        thread = Thread(made["id"], metadata)
        listed = self.ask("GET", f"{thread.path}/messages?order=asc")["data"]
        thread.messages = [
            ExpectedMessage(one["id"], role, text) for one, (role, text) in zip(listed, texts, strict=True)
        ]
        self.all.append(thread)
        return thread

    @rule(thread=threads, metadata=METADATA)
    def change_thread(self, thread: Thread, metadata: dict[str, str]) -> None:
        assert self.ask("POST", thread.path, {"metadata": metadata})["metadata"] == metadata
        thread.metadata = metadata

    @rule(thread=consumes(threads))
    def delete_thread(self, thread: Thread) -> None:
        assert self.ask("DELETE", thread.path)["deleted"]
        self.all.remove(thread)
        below = [f"/messages/{message.id}" for message in thread.messages] + [f"/runs/{run.id}" for run in thread.runs]
        for path in ("", "/messages", "/runs", *below):
            self.ask("GET", thread.path + path, status=404, error="No thread found")
        self.ask("POST", f"{thread.path}/messages", {"role": "user", "content": "x"}, status=404, error="No thread")

    # --- messages -----------------------------------------------------------------------------------------------------

    @rule(thread=threads, role=ROLES, text=TEXTS, metadata=METADATA)
    def add_message(self, thread: Thread, role: str, text: str, metadata: dict[str, str]) -> None:
        body = {"role": role, "content": text, "metadata": metadata}
        if thread.active is not None:
            self.ask(
                "POST", f"{thread.path}/messages", body, status=400, error=f"while a run {thread.active.id} is active"
            )
            return
        made = self.ask("POST", f"{thread.path}/messages", body)
        thread.messages.append(ExpectedMessage(made["id"], role, text, metadata=metadata))

    @rule(thread=threads, index=st.integers(0, 50), metadata=METADATA)
    def change_message(self, thread: Thread, index: int, metadata: dict[str, str]) -> None:
        if thread.messages:
            message = thread.messages[index % len(thread.messages)]
            path = f"{thread.path}/messages/{message.id}"
            assert self.ask("POST", path, {"metadata": metadata})["metadata"] == metadata
            message.metadata = metadata

    @rule(thread=threads, index=st.integers(0, 50))
    def delete_message(self, thread: Thread, index: int) -> None:
        if thread.active is None and thread.messages:
            message = thread.messages.pop(index % len(thread.messages))
            assert self.ask("DELETE", f"{thread.path}/messages/{message.id}")["deleted"]
            self.ask("GET", f"{thread.path}/messages/{message.id}", status=404, error="No message found")
            thread.gone.append(message.id)

    # --- runs ---------------------------------------------------------------------------------------------------------

    @rule(
        thread=threads,
        assistant=assistants,
        stream=st.booleans(),
        more=st.lists(st.tuples(ROLES, TEXTS), max_size=2),
    )
    def start_run(self, thread: Thread, assistant: Any, stream: bool, more: list[tuple[str, str]]) -> None:
        assistant_id, kind = assistant
        added = [{"role": role, "content": text} for role, text in more]
        body = {"assistant_id": assistant_id, "additional_messages": added, "stream": stream}
        path = f"{thread.path}/runs"
        if thread.active is not None:
            self.ask("POST", path, body, status=400, error=f"already has an active run {thread.active.id}")
            return
        until = "thread.message.delta" if kind == "stalls" else ""
        if stream:
            run = ExpectedRun(self.stream("POST", path, body, until)[0][2]["id"], kind)
        else:
            run = ExpectedRun(self.ask("POST", path, body)["id"], kind)
        thread.runs.append(run)
        self.follow(thread, run, until)
        listed = self.ask("GET", f"{thread.path}/messages?order=asc&limit=100")["data"]
        fresh = [one["id"] for one in listed[len(thread.messages) :]]
        thread.messages += [ExpectedMessage(id, role, text) for id, (role, text) in zip(fresh, more, strict=False)]
        match kind:
            case "echo":
                questions = [message.text for message in thread.messages if message.role == "user"]
                self.speak(thread, run, fresh[-1], f"Echo: {questions[-1] if questions else ''}", "completed")
            case "calls":
                run.status = "requires_action"
                run.steps = ["in_progress"]
            case _:
                self.speak(thread, run, fresh[-1], "one", "in_progress")

    def speak(self, thread: Thread, run: ExpectedRun, id: str, text: str, status: str) -> None:
        run.status = status
        run.spoken = text
        run.steps.append(status)
        thread.messages.append(ExpectedMessage(id, "assistant", text if status == "completed" else "", run.id, status))

    @rule(thread=threads, stream=st.booleans(), wrong=st.booleans())
    def submit(self, thread: Thread, stream: bool, wrong: bool) -> None:
        run = thread.active or (thread.runs[-1] if thread.runs else None)
        if run is None:
            return
        path = f"{thread.path}/runs/{run.id}"
        if run.status != "requires_action":
            body = {"tool_outputs": [{"tool_call_id": "call_x", "output": "x"}]}
            self.ask("POST", f"{path}/submit_tool_outputs", body, status=400, error="do not accept tool outputs")
            return
        body = {**outputs(self.ask("GET", path)), "stream": stream}
        if wrong:
            body["tool_outputs"] = [{"tool_call_id": "call_x", "output": "x"}]
            self.ask("POST", f"{path}/submit_tool_outputs", body, status=400)
            return
        if stream:
            assert text_of(self.stream("POST", f"{path}/submit_tool_outputs", body)) == ANSWER
        else:
            assert self.ask("POST", f"{path}/submit_tool_outputs", body)["status"] == "queued"
            self.follow(thread, run)
        run.steps = ["completed"]
        message_id = self.ask("GET", f"{thread.path}/messages?limit=1")["data"][0]["id"]
        self.speak(thread, run, message_id, ANSWER, "completed")
        steps = self.ask("GET", f"{path}/steps?order=asc")["data"]
        assert steps[0]["step_details"]["tool_calls"][0]["function"]["output"] == OUTPUT

    @rule(thread=threads)
    def cancel(self, thread: Thread) -> None:
        run = thread.active
        if run is None:
            if thread.runs:
                path = f"{thread.path}/runs/{thread.runs[-1].id}/cancel"
                self.ask("POST", path, {}, status=400, error="Cannot cancel run")
            return
        assert self.ask("POST", f"{thread.path}/runs/{run.id}/cancel", {})["status"] == "cancelling"
        self.follow(thread, run)
        run.status = "cancelled"
        run.steps = ["cancelled" if status == "in_progress" else status for status in run.steps]
        for message in thread.messages:
            if message.run == run.id and message.status == "in_progress":
                message.status, message.text = "incomplete", run.spoken

    # --- comparing ----------------------------------------------------------------------------------------------------

    @rule(thread=threads, limit=st.integers(1, 4), order=st.sampled_from(["asc", "desc"]))
    def walk(self, thread: Thread, limit: int, order: str) -> None:
        for kind, there in (("messages", thread.messages), ("runs", thread.runs)):
            ids = [one.id for one in there]
            found: list[str] = []
            path = f"{thread.path}/{kind}?limit={limit}&order={order}"
            page = self.ask("GET", path)
            while True:
                found += [one["id"] for one in page["data"]]
                assert len(found) <= len(ids)
                if not page["has_more"]:
                    break
                assert len(page["data"]) == limit
                page = self.ask("GET", f"{path}&after={page['last_id']}")
            assert found == (ids if order == "asc" else ids[::-1])

    @rule(thread=threads, index=st.integers(0, 50))
    def list_around(self, thread: Thread, index: int) -> None:
        ids = [message.id for message in thread.messages]
        if ids:
            at = index % len(ids)
            path = f"{thread.path}/messages?order=asc&limit=100"
            after = self.ask("GET", f"{path}&after={ids[at]}")["data"]
            before = self.ask("GET", f"{path}&before={ids[at]}")["data"]
            assert [one["id"] for one in after] == ids[at + 1 :]
            assert [one["id"] for one in before] == ids[:at]

    @rule(thread=threads)
    def look(self, thread: Thread) -> None:
        check_thread(self, thread)

    def teardown(self) -> None:
        for thread in self.all:
            check_thread(self, thread)
        self.kept.extend(self.all)


def check_thread(clients: Clients, thread: Thread) -> None:
    """Compare everything that the server has of a thread with the expected state."""
    assert clients.ask("GET", thread.path)["metadata"] == thread.metadata
    listed = clients.ask("GET", f"{thread.path}/messages?order=asc&limit=100")["data"]
    assert [one["id"] for one in listed] == [message.id for message in thread.messages]
    for one, message in zip(listed, thread.messages, strict=True):
        assert (one["role"], one["run_id"], one["metadata"]) == (message.role, message.run, message.metadata)
        if message.status is not None:
            assert one["status"] == message.status
        assert "".join(part["text"]["value"] for part in one["content"]) == message.text
    for id in thread.gone:
        clients.ask("GET", f"{thread.path}/messages/{id}", status=404)
    for run in thread.runs:
        path = f"{thread.path}/runs/{run.id}"
        assert clients.ask("GET", path)["status"] == run.status
        steps = clients.ask("GET", f"{path}/steps?order=asc")["data"]
        assert [step["status"] for step in steps] == run.steps
        log = clients.follow(thread, run, "thread.message.delta" if run.status == "in_progress" else "")
        numbers = [number for number, _, _ in log]
        assert numbers == sorted(set(numbers))
        assert text_of(log) == run.spoken
        if run.status != "in_progress":
            assert log[-1][1] == f"thread.run.{run.status}"
