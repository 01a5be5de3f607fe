"""The requests that a waiting run's calls would send, shown to the person who approves them."""

from typing import Literal

from typing_extensions import TypedDict

from graphs.tools.port import MAX_PREVIEWED, TOO_LONG
from graphs.tools.toolset import ToolSet
from store.ports import RunRow

__all__ = ["Approval", "pending_approvals"]


class Approval(TypedDict):
    """One call that waits for approval, without its credentials.

    `body` is text, empty if none is sent. `problem` is the reason why no request can be shown.
    """

    object: Literal["run.approval"]
    tool_call_id: str
    name: str
    method: str
    url: str
    headers: dict[str, str]
    body: str
    problem: str | None


async def pending_approvals(row: RunRow, tools: ToolSet) -> list[Approval]:
    """Return a run's calls that wait for approval, in the order of `required_action`; empty if it does not wait."""
    if row.body["required_action"] is None:
        return []
    approvals: list[Approval] = []
    left = MAX_PREVIEWED
    for call in row.body["required_action"]["submit_tool_outputs"]["tool_calls"]:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        tool = tools.served.get(name)
        if tool is None or tool.preview is None:
            continue
        shown = await tool.preview(arguments, left)
        left = 0 if shown.problem == TOO_LONG else left - shown.size  # with 0, no more are built
        approvals.append(
            Approval(
                object="run.approval",
                tool_call_id=call["id"],
                name=name,
                method=shown.method,
                url=shown.url,
                headers=dict(shown.headers),
                body=shown.body,
                problem=shown.problem,
            )
        )
    return approvals
