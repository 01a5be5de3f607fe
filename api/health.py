"""Health and readiness: whether the process is up, and whether it can work."""

from fastapi import Request, Response

from api.json_response import json_response
from api.readiness import Readiness
from api.routers import api_router

__all__ = ["router"]

router = api_router("health")


@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health(request: Request) -> Response:
    """Report that the process is up, and its version."""
    return json_response({"status": "ok", "version": request.app.state.version})


@router.head("/ready", include_in_schema=False)
@router.get("/ready", responses={503: {"description": "Not ready; `checks` says why"}})
async def ready(request: Request) -> Response:
    """Check that the store accepts writes, the disk has free space, and every upstream answers.

    Each check is "ok" or says what is wrong. `warnings` names missing optional parts; it is absent if there are none.
    """
    readiness: Readiness = request.app.state.readiness
    found = await readiness.checks()
    checks = {name: wrong or "ok" for name, wrong in found.items()}
    is_ready = not any(found.values())
    state: dict[str, object] = {"status": "ready" if is_ready else "not ready", "checks": checks}
    if readiness.warnings:
        state["warnings"] = readiness.warnings
    return json_response(state, status=200 if is_ready else 503)
