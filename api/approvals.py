"""Requests that a run waiting for approval would send (an extension). The page shows them next to Approve and Deny."""

from typing import Literal

from fastapi import Response
from pydantic import BaseModel

from api.depends import InjectedDeps, Owner, RunId, ThreadId, get_or_404
from api.json_response import json_response
from api.routers import api_router
from graphs.approvals import Approval, pending_approvals
from wire.errors import RunError, Unavailable

__all__ = ["router"]

router = api_router("runs")


class Approvals(BaseModel):
    """All pending approvals of a run, on one page."""

    object: Literal["list"]
    data: list[Approval]


@router.get("/threads/{thread_id}/runs/{run_id}/approvals", response_model=Approvals)
async def list_approvals(thread_id: ThreadId, run_id: RunId, deps: InjectedDeps, owner: Owner) -> Response:
    """List the actions that wait for approval, with the request that each would send (an extension)."""
    row = await get_or_404(deps, "run", run_id, owner, thread_id=thread_id)
    try:
        tools = await (await deps.runner.contexts.toolset(row)).completed()
    except RunError as error:
        raise Unavailable(error.message, headers={"Retry-After": "5"}) from error
    return json_response({"object": "list", "data": await pending_approvals(row, tools)})
