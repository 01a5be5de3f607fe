"""Parts become rows and events, and each event is recorded with the row change that it reports."""

import time
from typing import Any

import orjson
import pytest

from graphs.machine.stream_parts import (
    CallAnswered,
    CallDelta,
    CallsAnswered,
    CallsMade,
    CallsOpened,
    Citation,
    CustomEvent,
    MessageClosed,
    MessageOpened,
    ReasoningDelta,
    RefusalDelta,
    StreamPart,
    TextDeltas,
    Usage,
)
from graphs.record import Recorded, Recorder
from store.ports import Insert, Patch, Row
from wire.assistants import AssistantCreate, new_assistant
from wire.messages import plain_text
from wire.runs import RunCreate, new_run

USAGE = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
CALL: Any = {"id": "call_1", "upstream_id": "u", "name": "f", "arguments": "{}"}


def recorder() -> Recorder:
    assistant = new_assistant(AssistantCreate(model="m"), id="asst_1", now=1)
    request = RunCreate(assistant_id="asst_1")
    run = new_run(request, assistant, id="run_1", thread_id="thread_1", now=1, expiry_s=600)
    return Recorder(run | {"status": "in_progress"}, "default", lambda: 7)


def record(books: Recorder, *parts: StreamPart) -> Recorded:
    done = Recorded()
    for part in parts:
        done.extend(books.record(part))
    return done


class Rows:
    """The rows after the changes."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}

    def apply(self, done: Recorded) -> None:
        for change in done.changes:
            if isinstance(change, Insert):
                self.bodies[change.row.id] = dict(change.row.body)
            elif isinstance(change, Patch):
                self.bodies.setdefault(change.id, {}).update(change.body)


def events_of(done: Recorded) -> list[tuple[str, Any]]:
    return [(name, orjson.loads(data)) for name, data in done.events]


TEXT = [
    MessageOpened("step_1", "msg_1"),
    TextDeltas("msg_1", ["Hé"]),
    TextDeltas("msg_1", ['"\n']),
    MessageClosed("step_1", "msg_1", USAGE),
]
CALLS = [
    CallsOpened("step_1"),
    CallDelta("step_1", 0, "call_1", "f", "{"),
    CallDelta("step_1", 0, None, None, "}"),
    CallsMade("step_1", (CALL,), USAGE),
]


@pytest.mark.parametrize("parts", [TEXT, [*CALLS, CallsAnswered("step_1", {"call_1": "x"})]], ids=["text", "calls"])
def test_the_final_rows_equal_the_last_event(parts: list[StreamPart]) -> None:
    books, rows_after = recorder(), Rows()
    last: dict[str, Any] = {}
    for part in parts:
        done = books.record(part)
        rows_after.apply(done)
        for name, data in events_of(done):
            if not name.endswith("delta"):
                last[data["id"]] = data
                assert {key: rows_after.bodies[data["id"]][key] for key in ("status",)} == {"status": data["status"]}
    for id, data in last.items():
        assert rows_after.bodies[id] == data


def test_the_prepared_frame_of_a_token_equals_an_encoded_one() -> None:
    books = recorder()
    done = record(books, *TEXT[:3])
    deltas = [data for name, data in events_of(done) if name == "thread.message.delta"]
    texts = [{"value": "Hé", "annotations": []}, {"value": '"\n'}]
    assert deltas == [
        {
            "id": "msg_1",
            "object": "thread.message.delta",
            "delta": {"content": [{"index": 0, "type": "text", "text": text}]},
        }
        for text in texts
    ]


def test_a_call_s_deltas_add_up_to_its_arguments() -> None:
    done = record(
        recorder(), CALLS[0], CallDelta("step_1", 0, "call_1", "f", '{"a"'), CallDelta("step_1", 0, None, None, ":1}")
    )
    calls = [data["delta"]["step_details"]["tool_calls"] for name, data in events_of(done) if name.endswith("delta")]
    head = {"index": 0, "type": "function"}
    assert calls == [
        [{**head, "id": "call_1", "function": {"name": "f", "arguments": "", "output": None}}],
        [{**head, "function": {"arguments": '{"a"'}}],
        [{**head, "function": {"arguments": ":1}"}}],
    ]


def test_a_refusal_is_a_separate_part() -> None:
    done = record(
        recorder(),
        MessageOpened("step_1", "msg_1"),
        RefusalDelta("msg_1", "I "),
        RefusalDelta("msg_1", "can't."),
        MessageClosed("step_1", "msg_1", USAGE),
    )
    closed = next(data for name, data in events_of(done) if name == "thread.message.completed")
    assert closed["content"] == [{"type": "refusal", "refusal": "I can't."}]


def test_an_ended_step_has_its_usage_and_the_run_the_sum() -> None:
    books = recorder()
    made = record(books, *CALLS)
    assert all(data.get("usage") is None for name, data in events_of(made) if name.startswith("thread.run.step."))
    answered = record(books, CallAnswered("step_1", "call_1", "x"), CallsAnswered("step_1", {"call_1": "x"}))
    (closed,) = [data for name, data in events_of(answered) if name == "thread.run.step.completed"]
    assert closed["usage"] == USAGE
    record(books, *TEXT)
    ended = books.transition("completed")
    assert events_of(ended)[-1][1]["usage"] == {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}


@pytest.mark.parametrize(
    ("status", "reason"), [("cancelled", "run_cancelled"), ("expired", "run_expired"), ("failed", "run_failed")]
)
def test_open_objects_are_closed_before_the_run_ends(status: Any, reason: str) -> None:
    books = recorder()
    record(books, *TEXT[:2])
    error = {"code": "invalid_prompt", "message": "no"} if status == "failed" else None
    done = books.transition(status, **({"last_error": error} if error else {}))
    names = [name for name, _ in events_of(done)]
    assert names == ["thread.message.incomplete", f"thread.run.step.{status}", f"thread.run.{status}"]
    message, step, run = (data for _, data in events_of(done))
    assert message["incomplete_details"] == {"reason": reason}
    assert message["content"][0]["text"]["value"] == "Hé"
    assert step[f"{status}_at"] == 7
    assert run["expires_at"] is None
    if error:
        assert run["last_error"]["code"] == "invalid_prompt"
        assert step["last_error"]["code"] == "server_error"


def test_a_status_change_names_the_statuses_it_starts_from() -> None:
    (patch,) = recorder().transition("completed").changes
    assert isinstance(patch, Patch)
    assert patch.only_if == {"in_progress"}


def test_calls_truncated_by_a_limit_fail_their_step() -> None:
    done = record(recorder(), *CALLS[:2], CallsMade("step_1", (CALL,), USAGE, cut_off=True))
    assert events_of(done)[-1][0] == "thread.run.step.failed"


def test_a_restored_recorder_continues_from_the_rows() -> None:
    books, rows_after = recorder(), Rows()
    rows_after.apply(record(books, *CALLS))
    again = recorder()
    step = Row("step", "step_1", "default", rows_after.bodies["step_1"], "thread_1", "run_1", {"usage": USAGE})
    again.restore([step], [])
    done = Recorded()
    again.answer_all({"call_1": "x"}, done)
    ((name, data),) = events_of(done)
    assert name == "thread.run.step.completed"
    assert data["usage"] == USAGE
    assert again.usage == USAGE
    assert data["step_details"]["tool_calls"][0]["function"]["output"] == "x"


MARKER = "【0:0†source】"
CITES = Citation("msg_1", MARKER, "file-a")


def _content(done: Recorded) -> Any:
    rows_after = Rows()
    rows_after.apply(done)
    return rows_after.bodies["msg_1"]["content"][0]["text"]


def test_a_citation_has_the_position_of_its_marker() -> None:
    books = recorder()
    recorded = record(
        books,
        MessageOpened("step_1", "msg_1"),
        TextDeltas("msg_1", ["gone", " soon"]),
        CITES,
        ReasoningDelta("msg_1", "gone soon", reclassified=True),
        TextDeltas("msg_1", ["Hé", "llo"]),
        CITES,
        CITES,
        TextDeltas("msg_1", ["."]),
        CITES,
        MessageClosed("step_1", "msg_1", USAGE),
    )
    text = _content(recorded)
    assert text["value"] == f"Héllo{MARKER}{MARKER}.{MARKER}"
    places = [(each["start_index"], each["end_index"]) for each in text["annotations"]]
    assert places == [(5, 17), (17, 29), (30, 42)]
    assert plain_text(text) == "Héllo."


@pytest.mark.parametrize(
    ("annotations", "plain"),
    [
        ([(0, 2), (4, 6)], "cdgh"),
        ([(4, 6), (0, 2)], "cdgh"),
        ([(0, 4), (2, 6)], "gh"),
        ([(0, 8), (2, 3)], ""),
        ([(6, 99)], "abcdef"),
    ],
    ids=["in order", "out of order", "overlapping", "within another", "beyond the end"],
)
def test_plain_text_has_no_cited_marker(annotations: list[tuple[int, int]], plain: str) -> None:
    made = [{"type": "file_citation", "start_index": start, "end_index": end} for start, end in annotations]
    made.append({"type": "file_path", "start_index": 2, "end_index": 4})
    assert plain_text({"value": "abcdefgh", "annotations": made}) == plain


def test_citations_take_linear_time() -> None:
    books, count = recorder(), 20_000
    started = time.process_time()
    record(books, MessageOpened("step_1", "msg_1"))
    for _ in range(count):
        record(books, TextDeltas("msg_1", ["some words of text "]), CITES)
    text = _content(record(books, MessageClosed("step_1", "msg_1", USAGE)))
    assert len(plain_text(text)) == count * 19
    assert time.process_time() - started < 3, "the text is rebuilt for each citation"


def test_a_custom_event_changes_the_run_with_it_once() -> None:
    books, rows = recorder(), Rows()
    note = {"left_out_messages": 2, "context_limit": None}
    part = CustomEvent("threadhold.context", "msg_1", note, {"threadhold": note})
    done = record(books, part)
    rows.apply(done)
    assert rows.bodies["run_1"]["threadhold"] == books.run["threadhold"] == note
    ((name, data),) = events_of(done)
    assert (name, data["run_id"], data["id"], data["left_out_messages"]) == ("threadhold.context", "run_1", "msg_1", 2)
    assert not record(books, part).events
    assert not record(books, CustomEvent("threadhold.context", "msg_1", note)).changes
