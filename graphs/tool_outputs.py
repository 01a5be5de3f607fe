"""Checks the tool outputs that a client submits against the calls that the run waits for. Pure.

The wording of the errors is OpenAI's.
"""

from collections.abc import Sequence

from graphs.machine.exchange import check_submitted
from wire.errors import InvalidRequest
from wire.runs import RequiredAction, SubmittedOutput
from wire.validation import truncated

__all__ = ["check_outputs", "not_waiting"]


def check_outputs(
    required_action: RequiredAction, outputs: Sequence[SubmittedOutput], *, used: int = 0
) -> dict[str, str]:
    """Return outputs by call id; `used` is the size of the run's exchange so far, in bytes.

    Raises:
        InvalidRequest: An output is missing, occurs twice, or matches no pending call; or the outputs are too large.
    """
    wanted = [call["id"] for call in required_action["submit_tool_outputs"]["tool_calls"]]
    given = [output.get("tool_call_id") or "" for output in outputs]
    if set(given) != set(wanted) or len(given) != len(set(given)):
        named = [truncated(id) for id in given[: len(wanted) + 1]] + ["…"] * (len(given) > len(wanted) + 1)
        raise InvalidRequest(f"Expected tool outputs for call_ids {wanted}, got {named}", param="tool_outputs")
    by_call = {output["tool_call_id"]: output.get("output") or "" for output in outputs}
    check_submitted(by_call, used)
    return by_call


def not_waiting(status: str) -> InvalidRequest:
    """Return the error for a run that does not wait for outputs."""
    return InvalidRequest(f'Runs in status "{status}" do not accept tool outputs.')
