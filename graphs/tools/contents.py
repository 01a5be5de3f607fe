"""Adds the contents of calls to a run step, which clients get only if they ask for them with `include[]`. Pure."""

from collections.abc import Mapping

from graphs.tools.kinds import STEP_CALLS
from wire.json import UncheckedJson
from wire.steps import RunStep

__all__ = ["with_contents"]


def with_contents(step: RunStep, contents: Mapping[str, list[UncheckedJson]]) -> RunStep:
    """Return the step with the contents of its calls, such as the passages that searches found; `contents` by call id.

    The argument is not changed.
    """
    if not contents:
        return step
    calls = []
    for call in step["step_details"]["tool_calls"]:
        kind = call["type"]
        add = STEP_CALLS[kind].with_contents
        if add is not None and (found := contents.get(call["id"])) is not None:
            call = {**call, kind: add(call[kind], found)}
        calls.append(call)
    return {**step, "step_details": {**step["step_details"], "tool_calls": calls}}
