"""Every object of a dump is either imported or refused."""

import tempfile
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ops.conversations import ConversationRows, read_dump
from ops.dump import Dump
from tests.objects import check
from wire.messages import Message
from wire.runs import Run
from wire.steps import RunStep
from wire.threads import Thread

_MODELS: dict[str, Any] = {"thread": Thread, "message": Message, "run": Run, "step": RunStep}

_KEYS = [
    *("id", "object", "created_at", "thread_id", "run_id", "role", "content", "messages", "runs", "steps", "data"),
    *("metadata", "tool_resources", "attachments", "file_ids", "status", "tools", "type", "text", "value"),
    *("annotations", "start_index", "end_index", "model", "assistant_id", "step_details", "file_search", "usage"),
]
_WORDS = [
    *("thread", "thread.message", "thread.run", "thread.run.step", "assistant", "list", "user", "assistant", "text"),
    *("thread_a", "thread_b", "msg_a", "msg_b", "run_a", "step_a", "asst_a", "completed", "in_progress", "thread_/.."),
    *("tool_calls", "file_citation", "image_file", "retrieval", "x"),
]
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2**40)
    | st.floats(allow_nan=False)
    | st.sampled_from(_WORDS)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=8),
    max_leaves=25,
)
_ids = {"thread": "thread_a", "thread.message": "msg_a", "thread.run": "run_a", "thread.run.step": "step_a"}


@st.composite
def entries(draw: st.DrawFn) -> Any:
    """Generate any value, or a valid object with a few possibly invalid values in it."""
    kind = draw(st.sampled_from([None, *_ids]))
    if kind is None:
        return draw(_values)
    sound: dict[str, Any] = {"object": kind, "id": _ids[kind], "thread_id": "thread_a", "created_at": 1}
    sound |= {"role": "user", "content": "x", "assistant_id": "asst_a", "run_id": "run_a", "status": "completed"}
    sound |= {"type": "tool_calls", "step_details": {"type": "tool_calls", "tool_calls": []}}
    if kind == "thread":
        sound["messages"] = [{"role": "user", "content": "x"}, *draw(st.lists(_values, max_size=2))]
    return sound | draw(st.dictionaries(st.sampled_from(_KEYS), _values, max_size=2))


STRAY_STEP = {
    "object": "thread.run.step",
    "id": "step_a",
    "thread_id": "thread",
    "run_id": "run_a",
    "created_at": 1,
    "status": "completed",
    "type": "tool_calls",
    "step_details": {"type": "tool_calls", "tool_calls": []},
}
"""The only object of its thread, whose id is not one."""


@settings(deadline=None, max_examples=100)
@example([STRAY_STEP])
@given(st.lists(entries(), max_size=5))
def test_accepted_objects_become_the_same_valid_rows_each_time(objects: list[Any]) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(orjson.dumps(each) + b"\n" for each in objects))
        dump = Dump(file, "line", file.tell())
        found = read_dump(dump, now=9, on_progress=lambda *_: None)
        assert all(1 <= refusal.number <= len(objects) and refusal.why for refusal in found.invalid)
        again = ConversationRows(dump, "ann", now=9)
        for conversation in found.conversations:
            rows = ConversationRows(dump, "ann", now=9).of(conversation)
            assert rows == again.of(conversation)
            assert rows[0].kind == "thread"
            assert len({row.id for row in rows}) == len(rows)
            for row in rows:
                orjson.dumps([row.body, row.private])
                check(_MODELS[row.kind], row.body)
                assert (row.id, row.owner) == (row.body["id"], "ann")
                assert row.kind == "thread" or row.thread_id == conversation.id == row.body["thread_id"]


def test_a_listing_of_many_threads_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = {
        "object": "list",
        "data": [{"object": "thread", "created_at": 1, "id": f"thread_{number}"} for number in range(50)],
    }
    with tempfile.TemporaryFile() as file:
        file.write(orjson.dumps(listing) + b"\n")
        dump = Dump(file, "line", file.tell())
        found = read_dump(dump, now=9, on_progress=lambda *_: None)
        read, reads = dump.read, []
        monkeypatch.setattr(dump, "read", lambda entry: reads.append(entry) or read(entry))
        rows = ConversationRows(dump, "ann", now=9)
        assert [rows.of(each)[0].id for each in found.conversations] == [f"thread_{number}" for number in range(50)]
    assert len(reads) == 1
