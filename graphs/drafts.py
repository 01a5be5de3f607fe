"""A new run before it is committed: its initial rows and its first events. Pure.

From the start, a run keeps its tools, including the secrets of actions, in its private part: changing the assistant
later does not change an existing run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from graphs.machine.spec import ClientCalls
from retrieval.assistant_files import files_of
from store.ports import AssistantRow, Change, Insert, MessageRow, Row, RunRow, ThreadRow
from wire.events import NewEvent, encode
from wire.ids import new_id
from wire.messages import MessageCreate, new_message
from wire.model_options import requested_sampling
from wire.resources import resources_body
from wire.runs import Run, RunCreate, ThreadRunCreate, new_run
from wire.threads import ThreadCreate, new_thread
from wire.tool_secrets import mask_tools, restore_secrets

__all__ = ["DEFAULTS", "Draft", "RunChoices", "draft_run", "draft_thread", "message_rows"]


@dataclass(frozen=True, slots=True)
class RunChoices:
    """What is chosen for a run besides its request. `client_calls`: see `RunSpec`."""

    contents: bool = False
    """Whether its events show the texts of the passages that searches found."""
    client_calls: ClientCalls = "pause"


DEFAULTS: Final = RunChoices()
"""The choices of most runs."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The rows of a new run; `thread` only if it is created with the run."""

    row: RunRow
    messages: list[MessageRow]
    thread: ThreadRow | None = None

    @property
    def run(self) -> Run:
        """The run's wire object."""
        return self.row.body

    def changes(self, *, held: bool) -> list[Change]:
        """Return the rows as changes, in the order of their references. Inserting the run checks the thread's lock.

        With `held`, this process holds the run, as it executes it immediately."""
        rows: list[Row] = [] if self.thread is None else [self.thread]
        return [*(Insert(row) for row in (*rows, *self.messages)), Insert(self.row, held)]

    def events(self) -> list[NewEvent]:
        """The first events of the run's log."""
        run = encode(self.run)
        made: list[NewEvent] = [] if self.thread is None else [("thread.created", encode(self.thread.body))]
        return [*made, ("thread.run.created", run), ("thread.run.queued", run)]


def draft_run(
    request: RunCreate,
    assistant: AssistantRow,
    owner: str,
    thread_id: str,
    choices: RunChoices,
    *,
    now: int,
    expiry_s: int,
) -> Draft:
    """Draft a run on a thread, its additional messages first."""
    messages = message_rows(request.additional_messages or (), owner, thread_id, now=now)
    row = _run_row(request, assistant, owner, thread_id, now, expiry_s)
    _note_choices(row, choices)
    return Draft(row, messages)


def draft_thread(
    request: ThreadRunCreate, assistant: AssistantRow, owner: str, choices: RunChoices, *, now: int, expiry_s: int
) -> Draft:
    """Draft a thread, its messages, and a run on it."""
    thread_request = request.thread or ThreadCreate()
    thread = new_thread(thread_request, id=new_id("thread"), now=now)
    if request.tool_resources is not None:
        thread["tool_resources"] = resources_body(request.tool_resources)
    messages = message_rows(thread_request.messages or (), owner, thread["id"], now=now)
    run = _run_row(request, assistant, owner, thread["id"], now, expiry_s)
    _note_choices(run, choices)
    return Draft(run, messages, Row("thread", thread["id"], owner, thread))


def _note_choices(row: RunRow, choices: RunChoices) -> None:
    row.private.update({"contents": choices.contents, "client_calls": choices.client_calls})


def message_rows(requests: Sequence[MessageCreate], owner: str, thread_id: str, *, now: int) -> list[MessageRow]:
    """Make the rows of new messages, in their order."""
    bodies = [new_message(request, id=new_id("msg"), thread_id=thread_id, now=now) for request in requests]
    return [Row("message", body["id"], owner, body, thread_id) for body in bodies]


def _run_row(
    request: RunCreate | ThreadRunCreate, assistant: AssistantRow, owner: str, thread_id: str, now: int, expiry_s: int
) -> RunRow:
    run = new_run(request, assistant.body, id=new_id("run"), thread_id=thread_id, now=now, expiry_s=expiry_s)
    kept = assistant.private.get("tools") or assistant.body["tools"]
    tools = kept if request.tools is None else restore_secrets(run["tools"], kept)
    run["tools"] = mask_tools(tools)
    if assistant.private.get("v1_files"):
        run["file_ids"] = list(files_of(assistant))  # a v1 field that no other field of the run contains
    asked = {**assistant.private.get("sampling", {}), **requested_sampling(request)}
    return Row("run", run["id"], owner, run, thread_id, private={"tools": tools, "sampling": asked})
