"""Answers and events without Threadhold's extensions of OpenAI's API."""

from typing import Any

import pytest

from wire import extensions
from wire.event_names import EVENT_NAMES
from wire.events import Event, encode, own_data
from wire.extensions import EXTENSION_EVENTS, events_without_extensions, without_extensions

NOTES = {"left_out_messages": 3, "context_limit": 2048}
RUN = {"object": "thread.run", "id": "run_1", "metadata": {"threadhold": "mine"}}


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (RUN, RUN),
        ({**RUN, "threadhold": NOTES, "file_ids": ["file-1"]}, RUN),
        ({"object": "model", "id": "m", "threadhold": {"note": "x"}, "pricing": {}}, {"object": "model", "id": "m"}),
        ({"object": "list", "data": [{**RUN, "threadhold": NOTES}]}, {"object": "list", "data": [RUN]}),
        ({"object": "thread", "metadata": {"threadhold": "mine"}},) * 2,
        ({"error": {"message": "x"}}, {"error": {"message": "x"}}),
    ],
    ids=["plain run", "run", "model", "list", "thread", "error"],
)
def test_an_answer_has_only_openai_s_fields(body: dict[str, Any], shown: dict[str, Any]) -> None:
    before = encode(body)
    assert without_extensions(body) == shown
    assert encode(body) == before


def test_a_v1_client_keeps_file_ids() -> None:
    run = {**RUN, "threadhold": NOTES, "file_ids": ["file-1"]}
    assert without_extensions(run, v1=True) == {**RUN, "file_ids": ["file-1"]}


def test_extension_events_are_removed_and_numbers_stay() -> None:
    events = [
        Event(number, name, own_data(name, {}) if name.startswith("threadhold.") else encode(RUN))
        for number, name in enumerate(EVENT_NAMES)
    ]
    kept = events_without_extensions(events)
    assert EXTENSION_EVENTS
    assert kept == [event for event in events if not event.name.startswith("threadhold.")]


@pytest.mark.parametrize("end", ["completed", "incomplete", "failed", "cancelled", "expired", "requires_action"])
def test_an_event_of_a_run_has_only_openai_s_fields(end: str) -> None:
    event = Event(7, f"thread.run.{end}", encode({**RUN, "threadhold": NOTES}))
    assert events_without_extensions([event]) == [Event(7, event.name, encode(RUN))]


@pytest.mark.parametrize("field", sorted(extensions._ADDED["thread.run"]))
def test_answers_and_events_leave_out_the_same_fields(field: str) -> None:
    assert without_extensions({**RUN, field: []}) == RUN
    event = Event(7, "thread.run.completed", encode({**RUN, field: []}))
    assert events_without_extensions([event]) == [Event(7, event.name, encode(RUN))]


def test_a_model_s_output_is_never_changed() -> None:
    delta = encode({"object": "thread.message.delta", "delta": {"content": [{"text": {"value": '{"threadhold": 1}'}}]}})
    event = Event(1, "thread.message.delta", delta)
    (kept,) = events_without_extensions([event])
    assert kept is event


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("thread.message.completed", "thread.message"),
        ("thread.run.queued", "thread.run"),
        ("thread.run.step.delta", None),
        ("thread.message.delta", None),
    ],
)
def test_an_event_has_the_extensions_of_its_own_object(name: str, kind: str | None) -> None:
    body = {"object": kind or name, "id": "x", "file_ids": ["file-1"]}
    (shown,) = events_without_extensions([Event(1, name, encode(body))])
    assert shown.data() == ({"object": kind, "id": "x"} if kind else body)
