"""Run steps: the object, and how a run creates one."""

from typing import Final, Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from wire.closed import CLOSED, OPEN
from wire.json import JsonObject
from wire.runs import LastError, Run, RunUsage

__all__ = ["STEP_DEFAULTS", "RunStep", "StepDefaults", "StepDetails", "StepEnd", "close_step", "open_step"]


StepEnd = Literal["cancelled", "failed", "completed", "expired"]
"""Statuses that end a step."""


@with_config(OPEN)
class CreatedMessage(TypedDict):
    """The message of a step."""

    message_id: str


@with_config(OPEN)
class StepDetails(TypedDict):
    """The message, or the tool calls, of a step. A call has `id`, `type`, and an object under the name of its type."""

    type: Literal["message_creation", "tool_calls"]
    message_creation: NotRequired[CreatedMessage]
    tool_calls: NotRequired[list[JsonObject]]


class _StepIdentity(TypedDict):
    id: str
    object: Literal["thread.run.step"]
    created_at: int
    assistant_id: str
    thread_id: str
    run_id: str
    type: Literal["message_creation", "tool_calls"]
    status: Literal["in_progress"] | StepEnd
    step_details: StepDetails


class StepDefaults(TypedDict):
    """The fields of a step that have a default value."""

    last_error: LastError | None
    expires_at: int | None
    expired_at: int | None
    cancelled_at: int | None
    failed_at: int | None
    completed_at: int | None
    metadata: dict[str, str]
    usage: RunUsage | None


@with_config(CLOSED)
class RunStep(_StepIdentity, StepDefaults):
    """The object `thread.run.step`."""


STEP_DEFAULTS: Final[StepDefaults] = {
    "last_error": None,
    "expires_at": None,
    "expired_at": None,
    "cancelled_at": None,
    "failed_at": None,
    "completed_at": None,
    "metadata": {},
    "usage": None,
}
"""The default values of a step's fields, used for example if the dump of an imported step lacks them."""


def open_step(
    *,
    id: str,
    run: Run,
    step_details: StepDetails,
    now: int,
) -> RunStep:
    """Make the wire object of a step in progress; `now` in Unix seconds."""
    return {
        "id": id,
        "object": "thread.run.step",
        "created_at": now,
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "run_id": run["id"],
        "type": step_details["type"],
        "status": "in_progress",
        "step_details": step_details,
        **STEP_DEFAULTS,
        "expires_at": run["expires_at"],
        "metadata": {},
    }


def close_step(
    step: RunStep, status: StepEnd, *, now: int, error: LastError | None = None, usage: RunUsage | None = None
) -> None:
    """Set the fields of a step that ends; `now` in Unix seconds."""
    step["status"] = status
    step["last_error"] = error
    step["usage"] = usage
    match status:
        case "cancelled":
            step["cancelled_at"] = now
        case "failed":
            step["failed_at"] = now
        case "completed":
            step["completed_at"] = now
        case "expired":
            step["expired_at"] = now
