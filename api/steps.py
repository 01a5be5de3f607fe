"""Steps of a run: list and read."""

from fastapi import Response

from api.depends import V1, Include, InjectedDeps, Listing, Owner, RunId, StepId, ThreadId, get_or_404
from api.json_response import json_response
from api.routers import api_router
from graphs.tools.contents import with_contents
from store.ports import PageQuery, StepRow
from wire.errors import NotFound
from wire.pages import Listing as ListOf
from wire.pages import list_envelope
from wire.steps import RunStep

__all__ = ["router"]

router = api_router("run steps")


@router.get("/threads/{thread_id}/runs/{run_id}/steps", response_model=ListOf[RunStep])
async def list_steps(
    thread_id: ThreadId, run_id: RunId, query: Listing, deps: InjectedDeps, owner: Owner, v1: V1, contents: Include
) -> Response:
    """List steps, newest first."""
    await get_or_404(deps, "run", run_id, owner, thread_id=thread_id)
    page_query = PageQuery(limit=query.limit, order=query.order, after=query.after or None, before=query.before or None)
    page = await deps.store.page("step", owner, page_query, thread_id=thread_id, run_id=run_id)
    return json_response(list_envelope([_step_body(row, contents) for row in page.rows], page.has_more), v1=v1)


@router.get("/threads/{thread_id}/runs/{run_id}/steps/{step_id}", response_model=RunStep)
async def get_step(
    thread_id: ThreadId, run_id: RunId, step_id: StepId, deps: InjectedDeps, owner: Owner, v1: V1, contents: Include
) -> Response:
    """Read a step."""
    await get_or_404(deps, "run", run_id, owner, thread_id=thread_id)
    row = await deps.store.get("step", step_id, owner, thread_id=thread_id, run_id=run_id)
    if row is None:
        raise NotFound(f"No step found with id '{step_id}'.")
    return json_response(_step_body(row, contents), v1=v1)


def _step_body(row: StepRow, contents: bool) -> RunStep:
    return with_contents(row.body, row.private.get("contents", {})) if contents else row.body
