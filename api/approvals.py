"""What a run that waits for approval would send (an extension): the page shows it beside Approve and Deny."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.answers import answer
from api.depends import Owner, Parts, RunId, ThreadId, must_get
from graphs.approvals import pending_approvals

__all__ = ["router"]

router = APIRouter(tags=["runs"])


class Approval(BaseModel):
    """One call that waits: the request as it will be sent, without its secrets."""

    object: Literal["run.approval"]
    tool_call_id: str
    name: str
    method: str
    url: str
    headers: dict[str, str]
    body: str
    problem: str | None


class Approvals(BaseModel):
    """All of a run's, on one page."""

    object: Literal["list"]
    data: list[Approval]


@router.get("/threads/{thread_id}/runs/{run_id}/approvals", response_model=Approvals)
async def list_approvals(thread_id: ThreadId, run_id: RunId, house: Parts, owner: Owner) -> Response:
    """List the actions that wait for approval, with the request that each would send (an extension)."""
    row = await must_get(house, "run", run_id, owner, thread_id=thread_id)
    return answer({"object": "list", "data": await pending_approvals(row)})
