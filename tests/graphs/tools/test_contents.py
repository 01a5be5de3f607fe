"""Contents of calls, which steps show only on request: each kind of call has its own."""

import copy
from dataclasses import replace

import pytest

from graphs.tools.contents import with_contents
from graphs.tools.kinds import STEP_CALLS
from wire.steps import RunStep


def step(*calls: dict[str, object]) -> RunStep:
    return {"id": "step_1", "step_details": {"type": "tool_calls", "tool_calls": list(calls)}}  # type: ignore[typeddict-item]


def test_every_kind_of_call_shows_its_own_contents(monkeypatch: pytest.MonkeyPatch) -> None:
    probed = replace(STEP_CALLS["function"], with_contents=lambda shown, contents: {**shown, "outputs": contents})
    monkeypatch.setitem(STEP_CALLS, "probe", probed)  # type: ignore[arg-type]
    given = step(
        {"id": "a", "type": "file_search", "file_search": {"results": [{"file_id": "file-1", "score": 1.0}]}},
        {"id": "b", "type": "probe", "probe": {"input": "1 + 1"}},
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}", "output": None}},
        {"id": "d", "type": "probe", "probe": {"input": "2 + 2"}},
    )
    before = copy.deepcopy(given)
    shown = with_contents(given, {"a": [[{"type": "text", "text": "passage"}]], "b": ["2"], "c": ["never"]})
    assert given == before
    found = [call[call["type"]] for call in shown["step_details"]["tool_calls"]]
    assert found[0]["results"] == [
        {"file_id": "file-1", "score": 1.0, "content": [{"type": "text", "text": "passage"}]}
    ]
    assert found[1] == {"input": "1 + 1", "outputs": ["2"]}
    assert found[2:] == [call[call["type"]] for call in before["step_details"]["tool_calls"]][2:]


def test_a_step_without_contents_is_unchanged() -> None:
    given: RunStep = {"step_details": {"type": "message_creation"}}  # type: ignore[typeddict-item]
    assert with_contents(given, {}) is given
