"""Run steps: the object, and how a run creates one."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from wire.runs import LastError, RunUsage

__all__ = ["RunStep", "open_step", "show_contents"]


class RunStep(BaseModel):
    """The object `thread.run.step`."""

    model_config = ConfigDict(extra="forbid")

    id: str
    object: Literal["thread.run.step"]
    created_at: int
    assistant_id: str
    thread_id: str
    run_id: str
    type: Literal["message_creation", "tool_calls"]
    status: Literal["in_progress", "cancelled", "failed", "completed", "expired"]
    step_details: dict[str, Any]
    last_error: LastError | None
    expires_at: int | None
    expired_at: int | None
    cancelled_at: int | None
    failed_at: int | None
    completed_at: int | None
    metadata: dict[str, str]
    usage: RunUsage | None


def open_step(
    *,
    id: str,
    run: dict[str, Any],
    type: str,
    step_details: dict[str, Any],
    now: int,
) -> dict[str, Any]:
    """Make the wire object of a step in progress; `now` in Unix seconds."""
    return {
        "id": id,
        "object": "thread.run.step",
        "created_at": now,
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "run_id": run["id"],
        "type": type,
        "status": "in_progress",
        "step_details": step_details,
        "last_error": None,
        "expires_at": run["expires_at"],
        "expired_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "metadata": {},
        "usage": None,
    }


def show_contents(step: dict[str, Any], contents: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return the step with the passages that its searches found, as `include[]` asks for; `contents` by call id."""
    if not contents:
        return step
    calls = []
    for call in step["step_details"]["tool_calls"]:
        found = contents.get(call["id"])
        if found is not None:
            results = [
                {**each, "content": content}
                for each, content in zip(call["file_search"]["results"], found, strict=True)
            ]
            call = {**call, "file_search": {**call["file_search"], "results": results}}
        calls.append(call)
    return {**step, "step_details": {**step["step_details"], "tool_calls": calls}}
