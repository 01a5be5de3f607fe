"""A new run before it is committed: its initial rows and its first events. Pure.

A run is drafted from a request and a stored assistant, or from a `RunSpec` alone. From the start, it keeps its tools,
including their secrets, in its private part: changing the assistant later does not change an existing run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, cast

from graphs.machine.spec import ClientCalls, RunSpec
from retrieval.assistant_files import files_of
from store.ports import AssistantRow, Change, Insert, ItemRow, MessageRow, Row, RunRow, ThreadRow, is_message
from telemetry.context import current_key
from wire.events import NewEvent, encode
from wire.ids import derive_id, new_id
from wire.items import Item
from wire.messages import MessageCreate, new_message
from wire.model_options import apply_reasoning, apply_sampling, requested_sampling
from wire.resources import Resources, resources_body
from wire.runs import RUN_DEFAULTS, Run, RunCreate, RunValues, ThreadRunCreate, new_run, queued_run
from wire.threads import ThreadCreate, new_thread
from wire.tool_secrets import mask_tools, restore_secrets

__all__ = [
    "DEFAULTS",
    "Draft",
    "NewEntry",
    "RunChoices",
    "SpecRun",
    "draft_run",
    "draft_thread",
    "message_rows",
    "spec_assistant_id",
]

NewEntry = MessageCreate | Item
"""What a run adds to its thread before it starts. The ids of items must be new."""


@dataclass(frozen=True, slots=True)
class RunChoices:
    """What is chosen for a run besides its request. `client_calls`: see `RunSpec`; a SpecRun uses its spec's."""

    contents: bool = False
    """Whether its events show the texts of the passages that searches found."""
    client_calls: ClientCalls = "pause"


DEFAULTS: Final = RunChoices()
"""The choices of most runs."""


@dataclass(frozen=True, slots=True)
class SpecRun:
    """The request for a run without a stored assistant. `spec` has neither an `id` nor the server's limits."""

    spec: RunSpec
    entries: Sequence[NewEntry] = ()
    """Added to the thread, in this order, in the run's commit."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    tool_resources: Resources = field(default_factory=lambda: Resources())
    """Of the run's tools. The run can also search the thread's vector stores."""
    assistant_id: str = ""
    """What the run's objects show; no such assistant has to exist. Empty: `spec_assistant_id`."""
    thread: ThreadCreate = field(default_factory=ThreadCreate)
    """The thread that is created with the run, if one is. Its messages come before the entries."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The rows of a new run; `thread` only if it is created with the run."""

    row: RunRow
    entries: Sequence[MessageRow | ItemRow]
    thread: ThreadRow | None = None

    @property
    def messages(self) -> list[MessageRow]:
        """The messages among the entries."""
        return [row for row in self.entries if is_message(row)]

    @property
    def run(self) -> Run:
        """The run's wire object."""
        return self.row.body

    def changes(self, *, held: bool) -> list[Change]:
        """Return the rows as changes, in the order of their references. Inserting the run checks the thread's lock.

        With `held`, this process holds the run, as it executes it immediately."""
        rows: list[Row] = [] if self.thread is None else [self.thread]
        return [*(Insert(row) for row in (*rows, *self.entries)), Insert(self.row, held)]

    def events(self) -> list[NewEvent]:
        """The first events of the run's log."""
        run = encode(self.run)
        made: list[NewEvent] = [] if self.thread is None else [("thread.created", encode(self.thread.body))]
        return [*made, ("thread.run.created", run), ("thread.run.queued", run)]


def draft_run(
    request: RunCreate | SpecRun,
    assistant: AssistantRow | None,
    owner: str,
    thread_id: str,
    choices: RunChoices,
    *,
    now: int,
    expiry_s: int,
) -> Draft:
    """Draft a run on a thread, its additional messages and items first. Only a SpecRun needs no assistant."""
    added = request.entries if isinstance(request, SpecRun) else request.additional_messages or ()
    entries = _entry_rows(added, owner, thread_id, now=now)
    row = _run_row(request, assistant, owner, thread_id, now, expiry_s)
    _note_choices(row, request, choices)
    return Draft(row, entries)


def draft_thread(
    request: ThreadRunCreate | SpecRun,
    assistant: AssistantRow | None,
    owner: str,
    choices: RunChoices,
    *,
    now: int,
    expiry_s: int,
) -> Draft:
    """Draft a thread, its messages and items, and a run on it. Only a SpecRun needs no assistant."""
    thread_request = request.thread or ThreadCreate()
    thread = new_thread(thread_request, id=new_id("thread"), now=now)
    if isinstance(request, ThreadRunCreate) and request.tool_resources is not None:
        thread["tool_resources"] = resources_body(request.tool_resources)
    added: list[NewEntry] = [*(thread_request.messages or ())]
    if isinstance(request, SpecRun):
        added += request.entries
    entries = _entry_rows(added, owner, thread["id"], now=now)
    run = _run_row(request, assistant, owner, thread["id"], now, expiry_s)
    _note_choices(run, request, choices)
    return Draft(run, entries, Row("thread", thread["id"], owner, thread))


def spec_assistant_id(owner: str, spec: RunSpec) -> str:
    """Return the assistant id that a run of this spec shows: the same for the same owner, model and instructions."""
    return derive_id("asst", "facade", owner, spec.model, spec.instructions)


def _note_choices(row: RunRow, request: RunCreate | ThreadRunCreate | SpecRun, choices: RunChoices) -> None:
    calls = request.spec.client_calls if isinstance(request, SpecRun) else choices.client_calls
    row.private.update({"contents": choices.contents, "client_calls": calls})
    if key := current_key():
        row.private["key_id"] = key


def message_rows(requests: Sequence[MessageCreate], owner: str, thread_id: str, *, now: int) -> list[MessageRow]:
    """Make the rows of new messages, in their order."""
    return [_message_row(request, owner, thread_id, now) for request in requests]


def _message_row(request: MessageCreate, owner: str, thread_id: str, now: int) -> MessageRow:
    body = new_message(request, id=new_id("msg"), thread_id=thread_id, now=now)
    return Row("message", body["id"], owner, body, thread_id)


def _entry_rows(entries: Sequence[NewEntry], owner: str, thread_id: str, *, now: int) -> Sequence[MessageRow | ItemRow]:
    rows: list[MessageRow | ItemRow] = []
    for entry in entries:
        if isinstance(entry, MessageCreate):
            rows.append(_message_row(entry, owner, thread_id, now))
        else:
            item: ItemRow = Row("item", entry["id"], owner, entry, thread_id)
            rows.append(item)
    return rows


def _run_row(
    request: RunCreate | ThreadRunCreate | SpecRun,
    assistant: AssistantRow | None,
    owner: str,
    thread_id: str,
    now: int,
    expiry_s: int,
) -> RunRow:
    if isinstance(request, SpecRun):
        return _spec_row(request, owner, thread_id, now, expiry_s)
    assert assistant is not None, "only a SpecRun needs none"
    run = new_run(request, assistant.body, id=new_id("run"), thread_id=thread_id, now=now, expiry_s=expiry_s)
    kept = assistant.private.get("tools") or assistant.body["tools"]
    tools = kept if request.tools is None else restore_secrets(run["tools"], kept)
    run["tools"] = mask_tools(tools)
    if assistant.private.get("v1_files"):
        run["file_ids"] = list(files_of(assistant))  # a v1 field that no other field of the run contains
    asked = {**assistant.private.get("sampling", {}), **requested_sampling(request)}
    return Row("run", run["id"], owner, run, thread_id, private={"tools": tools, "sampling": asked})


def _spec_row(request: SpecRun, owner: str, thread_id: str, now: int, expiry_s: int) -> RunRow:
    spec, id = request.spec, new_id("run")
    assistant_id = request.assistant_id or spec_assistant_id(owner, spec)
    run = queued_run(
        _spec_values(request), id=id, thread_id=thread_id, assistant_id=assistant_id, now=now, expiry_s=expiry_s
    )
    tools = list(spec.tools)
    return Row("run", id, owner, run, thread_id, private={"tools": tools, "sampling": requested_sampling(spec.options)})


_SPEC_VALUES: Final = tuple(each.name for each in fields(RunSpec) if each.name in RunValues.__annotations__)
"""The fields of a spec that the run's object has under the same name."""


def _spec_values(request: SpecRun) -> RunValues:
    """Return the public values of a run from a spec; `RunSpec.of_run` reads them back."""
    spec = request.spec
    values: dict[str, object] = {name: RUN_DEFAULTS[name] for name in RunValues.__annotations__}  # type: ignore[literal-required]
    values |= {name: getattr(spec, name) for name in _SPEC_VALUES}
    values |= {**apply_sampling(spec.options), **apply_reasoning(spec.options), "tools": mask_tools(spec.tools)}
    values |= {"tool_resources": request.tool_resources, "metadata": dict(request.metadata)}
    return cast("RunValues", values)
