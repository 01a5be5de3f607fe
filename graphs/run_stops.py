"""Why a run's task stops, and what readers and the run's row are told then."""

from typing import Final, Literal

from wire.errors import LeaseLost, MissingRow, RunError, StoreError, Unavailable
from wire.runs import LastError

__all__ = ["UNWRITTEN", "Stop", "handed_over_error", "last_error", "lost_stop", "shutdown_error"]

Stop = Literal["cancelled", "expired", "shutdown", "refused", "unwritten", "deleted", "lost"]
"""Why a task was stopped: the client cancelled; the run expired; the server shuts down; the first commit was refused;
a later commit failed; the thread was deleted; this process was declared dead, so another one continues the run."""

UNWRITTEN: Final = "The server could not store the run's progress; see its log. Nothing that was acknowledged is lost."


def shutdown_error(run_id: str, after: int) -> Unavailable:
    """Return the error for readers of a run that continues when the server is back."""
    return Unavailable(
        f"The server is shutting down. Run {run_id} continues when it is back: read its events from number {after}."
    )


def handed_over_error(run_id: str, after: int) -> Unavailable:
    """Return the error for readers of a run that another process continues."""
    return Unavailable(
        f"Another server process continues run {run_id}: read its events from number {after}.",
        headers={"Retry-After": "5"},
    )


def lost_stop(error: BaseException) -> Stop | None:
    """Return why a failed commit means that the run is no longer this process's; None if it still is."""
    match error:
        case LeaseLost():
            return "lost"
        case MissingRow(kind="run" | "step" | "thread"):  # these rows are deleted only with the thread
            return "deleted"
        case _:
            return None


def last_error(error: BaseException) -> LastError:
    """Return the wire's `last_error`: that of a RunError, or OpenAI's own sentence for an unexpected error."""
    if isinstance(error, RunError):
        return {"code": error.code, "message": error.message}
    if isinstance(error, StoreError):
        return {"code": "server_error", "message": UNWRITTEN}
    return {"code": "server_error", "message": "Sorry, something went wrong."}
