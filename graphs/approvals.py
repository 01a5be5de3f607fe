"""The requests that a waiting run's actions would send, for the person who approves them.

Law: a preview is built like the request itself and shows no secret: credentials are added only when it is sent.
"""

from typing import Literal

from typing_extensions import TypedDict

from graphs.tools.arguments import BadArguments, read_arguments
from graphs.tools.calls import Call, build_call
from graphs.tools.operations import Operation
from graphs.tools.toolset import build_toolset
from store.ports import Row
from watch.shares import REQUESTS

__all__ = ["Approval", "pending_approvals"]


class Approval(TypedDict):
    """One call that waits, without its credentials.

    `body` is text, empty where none is sent. `problem` says why no request can be made.
    """

    object: Literal["run.approval"]
    tool_call_id: str
    name: str
    method: str
    url: str
    headers: dict[str, str]
    body: str
    problem: str | None


async def pending_approvals(row: Row) -> list[Approval]:
    """Return a run's calls that wait for approval, in the order of `required_action`; empty where it does not wait."""
    if row.body["required_action"] is None:
        return []
    toolset = await REQUESTS.run(row.owner, build_toolset, row.private["tools"])
    calls = row.body["required_action"]["submit_tool_outputs"]["tool_calls"]
    return [
        _approval(call["id"], operation, call["function"]["arguments"])
        for call in calls
        if (operation := toolset.operations.get(call["function"]["name"])) is not None
    ]


def _approval(id: str, operation: Operation, arguments: str) -> Approval:
    body, problem, url, headers = "", None, operation.server + operation.path, {}
    try:
        values, _ = read_arguments(operation, arguments)
        call = build_call(operation, values)
        body, url, headers = _body(call), call.url, dict(call.headers)
    except BadArguments as error:
        problem = str(error)
    return Approval(
        object="run.approval",
        tool_call_id=id,
        name=operation.name,
        method=operation.method,
        url=url,
        headers=headers,
        body=body,
        problem=problem,
    )


def _body(call: Call) -> str:
    if call.files is not None:
        return "\n".join(f"{name}: {data.decode('utf-8', 'replace')}" for name, (_, data, _) in call.files)
    return (call.content or b"").decode("utf-8", "replace")
