"""Groups the entries of a dump into conversations: a thread, its messages, runs and steps, anywhere in the file.

Invariants: each entry is checked by itself, and its error names its number. A thread is imported with everything in it,
or not at all. The rows of a conversation depend on the file alone, so reading it again makes the same rows.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import orjson

from graphs.tools.toolset import build_toolset
from ops.dump import Dump, Entry, decode
from ops.pages import Page, Pages
from store.ports import AssistantPrivate, ProgressCallback, Row, RunPrivate
from wire.dumps import (
    DumpKind,
    assistant_parts,
    kind_of,
    listed,
    message_body,
    missing_keys,
    oldest_first,
    run_body,
    step_body,
    thread_body,
    time_of,
    unwrapped,
)
from wire.errors import InvalidRequest
from wire.ids import derive_id
from wire.items import item_body
from wire.tool_secrets import drop_masked

__all__ = ["Conversation", "ConversationRows", "DumpContents", "InvalidEntry", "assistant_rows", "read_dump"]

Item = tuple[DumpKind, dict[str, object]]


@dataclass(frozen=True, slots=True)
class InvalidEntry:
    """An entry that cannot be imported, and why."""

    number: int
    why: str


@dataclass(slots=True)
class Conversation:
    """The positions of one thread's entries."""

    id: str
    entries: list[Entry] = field(default_factory=list)
    created_at: int | None = None
    headed: bool = False
    """Whether the thread object itself is among them."""
    messages: int = 0


@dataclass(slots=True)
class DumpContents:
    """The contents of a dump. `conversations` does not include conversations with a refused entry."""

    conversations: list[Conversation] = field(default_factory=list)
    assistants: dict[Entry, list[int]] = field(default_factory=dict)
    """Entry → the indexes of the assistants among its objects, each id once."""
    invalid: list[InvalidEntry] = field(default_factory=list)
    keyless: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    """Assistant id → index of an action → names of its keys, whose values the dump does not have."""
    pages: list[Page] = field(default_factory=list)
    """Pages whose listing is incomplete."""


def read_dump(dump: Dump, *, now: int, on_progress: ProgressCallback) -> DumpContents:
    """Read and check every entry, and keep only its position; `now` in Unix seconds. Blocks."""
    reader = _DumpReader(now)
    for entry, line in dump.entries():
        reader.read(entry, line)
        on_progress("reading", entry.start + entry.length, dump.size)
    found = reader.found()
    if dump.has_more:
        found.pages.insert(0, Page(None))
    return found


class _DumpReader:
    """Collects the contents of a dump, entry by entry."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._found = DumpContents()
        self._by_id: dict[str, Conversation] = {}
        self._broken: set[str] = set()
        self._assistant_ids: set[str] = set()
        self._pages = Pages()

    def read(self, entry: Entry, line: bytes) -> None:
        """Add the objects of an entry, each by itself: a refused one does not affect the others of its listing."""
        try:
            whole = decode(line)
            found = _objects(whole)
        except InvalidRequest as error:
            self._found.invalid.append(InvalidEntry(entry.number, error.message))
            return
        for index, data in enumerate(found):
            try:
                with _naming(found, data, "data"):
                    self._add_entry(entry, index, data, whole)
            except InvalidRequest as error:
                self._found.invalid.append(InvalidEntry(entry.number, error.message))

    def found(self) -> DumpContents:
        """Return what was collected, oldest conversation first."""
        whole = (each for each in self._by_id.values() if each.id not in self._broken)
        self._found.conversations = sorted(whole, key=lambda each: each.created_at or self._now)
        self._found.pages = self._pages.unfinished(self._broken)
        return self._found

    def _add_entry(self, entry: Entry, index: int, data: object, whole: object) -> None:
        kind = kind_of(data)
        assert isinstance(data, dict)  # an object of a known kind
        thread_id = None if kind == "assistant" else thread_id_of(kind, data)
        if index == 0:
            self._pages.note_entry(entry.number, whole, kind, data, thread_id)
        if thread_id is None:
            self._take_assistant(entry, index, data)
            return
        try:
            _add_entry(self._by_id.setdefault(thread_id, Conversation(thread_id)), entry, kind, data)
            _check(kind, data, thread_id)
        except InvalidRequest:
            self._broken.add(thread_id)
            raise
        place = f"data[{index}]." if isinstance(whole, dict) and whole.get("object") == "list" else ""
        self._pages.note_within(entry.number, place, kind, data, thread_id)

    def _take_assistant(self, entry: Entry, index: int, data: dict[str, object]) -> None:
        body, tools, _ = assistant_parts(data, now=self._now)
        build_toolset(tools)
        if body["id"] in self._assistant_ids:
            return
        self._assistant_ids.add(body["id"])
        self._found.assistants.setdefault(entry, []).append(index)
        if lacking := missing_keys(data):
            self._found.keyless[body["id"]] = lacking


def _objects(data: object) -> list[object]:
    """Return the objects of an entry: the entry itself, or its objects if it is a listing. Raises InvalidRequest."""
    if isinstance(data, dict) and data.get("object") == "list":
        return [unwrapped(each) for each in listed(data, "data")]
    return [unwrapped(data)]


def thread_id_of(kind: DumpKind, data: dict[str, object]) -> str:
    """Return the id of the thread that an object belongs to. A thread without an id gets one derived from its content.

    Raises InvalidRequest if the object names no thread.
    """
    if kind == "thread":
        if data.get("id") is None:
            content = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
            return derive_id("thread", "import", hashlib.sha256(content).hexdigest())
        return str(data["id"])
    if not isinstance(data.get("thread_id"), str):
        raise InvalidRequest("Missing required parameter: 'thread_id'.", param="thread_id")
    return str(data["thread_id"])


def assistant_rows(found: DumpContents, dump: Dump, owner: str, *, now: int) -> list[Row]:
    """Make the rows of all assistants, oldest first."""
    rows: list[Row] = []
    for entry, indexes in found.assistants.items():
        objects = _objects(dump.read(entry))
        for index in indexes:
            data = objects[index]
            assert isinstance(data, dict)  # `read_dump` has checked this
            body, tools, sampling = assistant_parts(data, now=now)
            private = AssistantPrivate(tools=tools, sampling=sampling)
            rows.append(Row("assistant", body["id"], owner, body, private=private))
    return sorted(rows, key=lambda row: int(row.body["created_at"]))


class ConversationRows:
    """Creates the rows of conversations. It keeps the objects of the last entry read, because one listing can
    contain thousands of threads."""

    def __init__(self, dump: Dump, owner: str, *, now: int) -> None:
        self._dump = dump
        self._owner = owner
        self._now = now
        self._entry: Entry | None = None
        self._by_thread: dict[str, list[Item]] = {}

    def of(self, conversation: Conversation) -> list[Row]:
        """Return the rows of a conversation, each after the rows that it refers to. Raises InvalidRequest."""
        every: list[Item] = []
        for entry in conversation.entries:
            if entry != self._entry:
                self._by_thread = _by_thread(_objects(self._dump.read(entry)))
                self._entry = entry
            every += self._by_thread.get(conversation.id, [])
        head = next((data for kind, data in every if kind == "thread"), {})
        return _rows(conversation.id, head, every, self._owner, now=self._now)


def _by_thread(objects: Iterable[object]) -> dict[str, list[Item]]:
    """Return thread id → objects of that thread, without those that are refused."""
    found: dict[str, list[Item]] = {}
    for data in objects:
        with suppress(InvalidRequest):
            kind = kind_of(data)
            if kind != "assistant" and isinstance(data, dict):
                found.setdefault(thread_id_of(kind, data), []).append((kind, data))
    return found


def _add_entry(conversation: Conversation, entry: Entry, kind: DumpKind, data: dict[str, object]) -> None:
    if conversation.entries[-1:] != [entry]:
        conversation.entries.append(entry)
    if kind == "thread":
        if conversation.headed:
            raise InvalidRequest(f"The thread '{conversation.id}' is in this file twice.")
        conversation.headed = True
    times = [time for time in (time_of(data), conversation.created_at) if time is not None]
    conversation.created_at = min(times, default=None)
    conversation.messages += len(listed(data.get("messages"), "messages")) if kind == "thread" else kind == "message"


def _check(kind: DumpKind, data: dict[str, object], thread_id: str) -> None:
    """Make the rows of the object, to check that it is possible. Raises InvalidRequest."""
    if kind == "step":
        _rows(thread_id, {}, (), "", now=0)  # checks the thread's id
        step_body(data, run_id=str(data.get("run_id")), thread_id=thread_id, assistant_id="asst_")
        return
    head = data if kind == "thread" else {}
    _rows(thread_id, head, [(kind, data)], "", now=0)


def _rows(thread_id: str, head: dict[str, object], every: Sequence[Item], owner: str, *, now: int) -> list[Row]:
    messages = [*_within(head, "messages", thread_id), *(data for kind, data in every if kind == "message")]
    runs = [*_within(head, "runs", thread_id), *(data for kind, data in every if kind == "run")]
    steps = [data for kind, data in every if kind == "step"]
    created_at = time_of(head)
    times = [time for each in _in_order(messages, "messages") if (time := time_of(each)) is not None]
    created_at = created_at if created_at is not None else min(times, default=now)
    rows: list[Row] = [Row("thread", thread_id, owner, thread_body(head, id=thread_id, created_at=created_at))]
    made = _message_rows(messages, thread_id, owner, created_at)
    rows += _with_items(made, _within(head, "items", thread_id), thread_id, owner)
    rows += _run_rows(runs, steps, thread_id, owner, created_at)
    return rows


def _message_rows(messages: Sequence[dict[str, object]], thread_id: str, owner: str, created_at: int) -> list[Row]:
    made: dict[str, Row] = {}
    last = created_at
    for index, data in enumerate(_in_order(messages, "messages")):
        id = str(data.get("id") or derive_id("msg", thread_id, "import", index))
        time = time_of(data)
        last = last if time is None else time
        with _naming(messages, data, "messages"):
            body = message_body(data, id=id, thread_id=thread_id, created_at=last)
        # Pages of a listing can overlap: a repeated object is imported once.
        made.setdefault(id, Row("message", id, owner, body, thread_id, body["run_id"]))
    return list(made.values())


def _with_items(messages: Sequence[Row], items: Sequence[dict[str, object]], thread_id: str, owner: str) -> list[Row]:
    """Return the messages, and each item behind the message that it comes `after`; at the start if there is none."""
    after: dict[str | None, dict[str, Row]] = {}
    known = {row.id for row in messages}
    for data in items:
        with _naming(items, data, "items"):
            body = item_body(data)
        run_id, named = data.get("run_id"), data.get("after")
        at = named if isinstance(named, str) and named in known else None
        made = Row("item", body["id"], owner, body, thread_id, run_id if isinstance(run_id, str) else None)
        after.setdefault(at, {}).setdefault(made.id, made)
    rows: list[Row] = [*after.get(None, {}).values()]
    for message in messages:
        rows += (message, *after.get(message.id, {}).values())
    return rows


def _run_rows(
    runs: Sequence[dict[str, object]], steps: Sequence[dict[str, object]], thread_id: str, owner: str, created_at: int
) -> list[Row]:
    """Return the rows of the runs that ended, and of their steps. Steps without such a run are left out."""
    made: dict[str, Row] = {}
    for data in _in_order(runs, "runs"):
        with _naming(runs, data, "runs"):
            body = run_body({"created_at": created_at, **data}, thread_id=thread_id)
        if body is None:
            continue
        private = RunPrivate(tools=drop_masked(body["tools"])[0], sampling={})
        made.setdefault(body["id"], Row("run", body["id"], owner, body, thread_id, private=private))
        inner = listed(data.get("steps"), "steps")
        for step in (*inner, *(each for each in steps if each.get("run_id") == body["id"])):
            of = step_body(step, run_id=body["id"], thread_id=thread_id, assistant_id=body["assistant_id"])
            made.setdefault(of["id"], Row("step", of["id"], owner, of, thread_id, body["id"]))
    return list(made.values())


def _in_order(objects: Sequence[dict[str, object]], name: str) -> list[dict[str, object]]:
    for each in objects:
        with _naming(objects, each, name):
            time_of(each)
    return oldest_first(objects)


@contextmanager
def _naming(objects: Sequence[object], one: object, name: str) -> Iterator[None]:
    """Add to an error the index of the object among several."""
    try:
        yield
    except InvalidRequest as error:
        if len(objects) == 1:
            raise
        index = next(index for index, each in enumerate(objects) if each is one)
        raise InvalidRequest(f"{name}[{index}]: {error.message}", param=error.param) from error


def _within(head: dict[str, object], name: str, thread_id: str) -> list[dict[str, object]]:
    """Return the objects in a thread's own entry. Raises InvalidRequest for one whose `thread_id` is another's."""
    found = listed(head.get(name), name)
    for index, each in enumerate(found):
        if each.get("thread_id") not in (None, thread_id):
            where = f"{name}[{index}].thread_id"
            raise InvalidRequest(f"'{where}' is '{each['thread_id']}', not '{thread_id}'.", param=where)
    return found
