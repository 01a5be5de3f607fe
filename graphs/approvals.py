"""The requests that a waiting run's actions would send, shown to the person who approves them.

Invariant: a preview is built like the request itself and shows no secret: credentials are added only on sending.
"""

from typing import Final, Literal

from typing_extensions import TypedDict

from fairness.fair_limits import REQUESTS
from graphs.tools.action import operations_of
from graphs.tools.arguments import BadArguments, read_arguments
from graphs.tools.http_requests import HttpRequest, build_request
from graphs.tools.operations import Operation
from graphs.tools.toolset import make_toolset
from store.ports import Row
from telemetry.context import acting_owner
from wire.json import JsonObject

__all__ = ["Approval", "pending_approvals"]

_MAX_SHOWN: Final = 8_388_608
"""Maximum characters of URLs, headers and bodies in one answer; a single request can have half as many."""

_TOO_LONG: Final = f"its request is too long to be shown: all requests together exceed {_MAX_SHOWN} characters"

_MAX_PATH: Final = 2_048
"""Characters of the URL that are shown if no request can be built."""


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


async def pending_approvals(row: Row) -> list[Approval]:
    """Return a run's calls that wait for approval, in the order of `required_action`; empty if it does not wait."""
    if row.body["required_action"] is None:
        return []
    operations = operations_of((await make_toolset(row.private["tools"])).served)
    calls = row.body["required_action"]["submit_tool_outputs"]["tool_calls"]
    shown: list[Approval] = []
    left = _MAX_SHOWN
    for call in calls:
        operation = operations.get(call["function"]["name"])
        if operation is None:
            continue
        approval = await _approval(call["id"], operation, call["function"]["arguments"], left)
        left = 0 if approval["problem"] == _TOO_LONG else left - _size(approval)  # with 0, no more are built
        shown.append(approval)
    return shown


async def _approval(id: str, operation: Operation, arguments: str, most: int) -> Approval:
    problem = _TOO_LONG
    try:
        if most > 0:
            values, _ = await read_arguments(operation, arguments)
            approval = await REQUESTS.run(acting_owner(), _preview, id, operation, values)
            if _size(approval) <= most:
                return approval
    except BadArguments as error:
        problem = str(error)
    unmade = HttpRequest(operation.method, (operation.server + operation.path)[:_MAX_PATH], [])
    return _as_approval(id, operation, unmade, problem)


def _preview(id: str, operation: Operation, values: JsonObject) -> Approval:
    return _as_approval(id, operation, build_request(operation, values), None)


def _size(approval: Approval) -> int:
    headers = approval["headers"]
    return len(approval["url"]) + len(approval["body"]) + sum(map(len, headers)) + sum(map(len, headers.values()))


def _as_approval(id: str, operation: Operation, call: HttpRequest, problem: str | None) -> Approval:
    return Approval(
        object="run.approval",
        tool_call_id=id,
        name=operation.name,
        method=call.method,
        url=call.url,
        headers=dict(call.headers),
        body=_body(call),
        problem=problem,
    )


def _body(call: HttpRequest) -> str:
    if call.files is not None:
        return "\n".join(f"{name}: {data.decode('utf-8', 'replace')}" for name, (_, data, _) in call.files)
    return (call.content or b"").decode("utf-8", "replace")
