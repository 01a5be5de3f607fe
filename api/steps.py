"""Steps of a run: list and read."""

from fastapi import APIRouter, Response

from api.answers import answer
from api.depends import Include, Listing, Owner, Parts, RunId, StepId, ThreadId, list_rows, must_get
from wire.errors import NotFound
from wire.pages import Listing as ListOf
from wire.steps import RunStep

__all__ = ["router"]

router = APIRouter(tags=["run steps"])


@router.get("/threads/{thread_id}/runs/{run_id}/steps", response_model=ListOf[RunStep])
async def list_steps(
    thread_id: ThreadId, run_id: RunId, query: Listing, house: Parts, owner: Owner, _: Include
) -> Response:
    """List steps, newest first."""
    await must_get(house, "run", run_id, owner, thread_id=thread_id)
    return answer(await list_rows(house, "step", owner, query, thread_id=thread_id, run_id=run_id))


@router.get("/threads/{thread_id}/runs/{run_id}/steps/{step_id}", response_model=RunStep)
async def get_step(
    thread_id: ThreadId, run_id: RunId, step_id: StepId, house: Parts, owner: Owner, _: Include
) -> Response:
    """Read a step."""
    await must_get(house, "run", run_id, owner, thread_id=thread_id)
    row = await house.store.get("step", step_id, owner, thread_id=thread_id, run_id=run_id)
    if row is None:
        raise NotFound(f"No step found with id '{step_id}'.")
    return answer(row.body)
