"""The names of events, and their encoding."""

import tracemalloc
from typing import get_args

from wire.event_names import EVENT_NAMES
from wire.events import RUN_ENDS, encode, message_event, run_event, step_event
from wire.status import TERMINAL, Status
from wire.steps import StepEnd


def test_every_status_has_an_event_of_its_own() -> None:
    named = [run_event(status) for status in get_args(Status)] + [step_event(status) for status in get_args(StepEnd)]
    named += [message_event("completed"), message_event("incomplete")]
    assert set(named) <= set(EVENT_NAMES)
    assert len({*EVENT_NAMES}) == len(EVENT_NAMES)
    assert {run_event(status) for status in TERMINAL} == RUN_ENDS


def test_an_encoded_event_takes_no_more_memory_than_its_length() -> None:
    tracemalloc.start()
    try:
        kept = [encode({"text": "x" * 100}) for _ in range(100)]
        assert tracemalloc.get_traced_memory()[0] < 2 * 100 * (len(kept[0]) + 33)
    finally:
        tracemalloc.stop()
