"""Every model option is on every request and object that has options, and in the options of the run's calls."""

import pytest

from tests.objects import OPTION_VALUES
from wire.assistants import Assistant, AssistantCreate, AssistantModify, assistant_changes, new_assistant
from wire.dumps import assistant_parts, run_body
from wire.model_options import (
    NO_OPTIONS,
    OPTIONS,
    UNSET_SAMPLING,
    ModelOptions,
    ReasoningOptions,
    requested_sampling,
    run_options,
)
from wire.runs import Run, RunCreate, ThreadRunCreate, new_run
from wire.v1 import as_v1
from wire.validation import parse

EVERY = ModelOptions(**OPTION_VALUES)
UNSET = {**dict.fromkeys(OPTIONS), **UNSET_SAMPLING}
"""What objects show for options that are not set."""


def assistant(**fields: object) -> Assistant:
    return new_assistant(parse(AssistantCreate, {"model": "m", **fields}), id="asst_1", now=5)


def run(request: RunCreate | ThreadRunCreate, of: Assistant) -> Run:
    return new_run(request, of, id="run_1", thread_id="thread_1", now=5, expiry_s=600)


def shown(body: Assistant | Run) -> dict[str, object]:
    return {name: value for name, value in body.items() if name in OPTIONS}


def test_requests_for_assistants_and_runs_accept_every_option() -> None:
    for model in (AssistantCreate, AssistantModify, RunCreate):
        assert model.model_fields.keys() >= OPTIONS
    assert OPTIONS - ThreadRunCreate.model_fields.keys() == ReasoningOptions.model_fields.keys()


def test_objects_have_every_option_set_or_not() -> None:
    asks = RunCreate(assistant_id="asst_1")
    made, plain = assistant(**OPTION_VALUES), assistant()
    assert shown(made) == shown(run(asks, made)) == OPTION_VALUES
    assert shown(plain) == shown(run(asks, plain)) == UNSET
    assert shown(run(parse(RunCreate, {"assistant_id": "asst_1", **OPTION_VALUES}), plain)) == OPTION_VALUES
    for kind in (Assistant, Run):
        assert kind.__annotations__.keys() >= OPTIONS


def test_a_modification_sets_and_resets_every_option() -> None:
    assert assistant_changes(parse(AssistantModify, OPTION_VALUES), assistant()) == OPTION_VALUES
    nulls = parse(AssistantModify, dict.fromkeys(OPTIONS))
    assert assistant_changes(nulls, assistant(**OPTION_VALUES)) == UNSET


def test_a_call_has_the_options_that_were_set_and_no_others() -> None:
    asks = parse(RunCreate, {"assistant_id": "asst_1", **OPTION_VALUES})
    assert run_options(run(asks, assistant()), requested_sampling(asks)) == EVERY
    assert EVERY.named() == OPTION_VALUES
    plain = RunCreate(assistant_id="asst_1")
    assert run_options(run(plain, assistant()), requested_sampling(plain)) == NO_OPTIONS
    assert NO_OPTIONS.named() == {}


@pytest.mark.parametrize("name", OPTION_VALUES)
def test_objects_without_a_newer_option_can_be_used(name: str) -> None:
    old = assistant(**{other: value for other, value in OPTION_VALUES.items() if other != name})
    del old[name]  # type: ignore[misc]
    made = run(RunCreate(assistant_id="asst_1"), old)
    assert shown(made) == {**OPTION_VALUES, name: UNSET[name]}
    del made[name]  # type: ignore[misc]
    assert getattr(run_options(made, {}), name) is None


def test_imported_assistants_and_runs_keep_every_option() -> None:
    given = {"id": "asst_1", "model": "m", "created_at": 5, **OPTION_VALUES}
    body, _, sampling = assistant_parts(given, now=9)
    assert shown(body) == OPTION_VALUES
    assert run_options(run(RunCreate(assistant_id="asst_1"), body), sampling) == EVERY
    body, _, sampling = assistant_parts({**given, **UNSET}, now=9)
    assert run_options(run(RunCreate(assistant_id="asst_1"), body), sampling) == NO_OPTIONS
    dumped = {"id": "run_1", "created_at": 5, "assistant_id": "asst_1", "status": "completed"}
    for fields, expected in (({}, dict.fromkeys(OPTIONS)), (OPTION_VALUES, OPTION_VALUES)):
        imported = run_body({**dumped, **fields}, thread_id="thread_1")
        assert imported is not None
        assert shown(imported) == expected


def test_v1_objects_have_only_a_run_s_temperature() -> None:
    made = assistant(**OPTION_VALUES)
    assert as_v1(made).keys().isdisjoint(OPTIONS)
    assert as_v1(run(RunCreate(assistant_id="asst_1"), made)).keys() & OPTIONS == {"temperature"}
