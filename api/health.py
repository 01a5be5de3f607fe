"""Whether the process is up, and whether it can do its work."""

import asyncio
from typing import Final

from fastapi import APIRouter, Response

from api.answers import answer
from api.depends import House, Parts
from wire.errors import StoreError

__all__ = ["router"]

router = APIRouter(tags=["health"])

_STORE_S: Final = 2.0


@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health() -> Response:
    """The process is up."""
    return answer({"status": "ok"})


@router.head("/ready", include_in_schema=False)
@router.get("/ready", responses={503: {"description": "Not ready; `checks` says why"}})
async def ready(house: Parts) -> Response:
    """The store takes writes and every upstream answers; each check is "ok" or says what is wrong."""
    store, upstream = await asyncio.gather(_check_store(house), house.upstream.check())
    checks = {"store": store or "ok", "upstream": upstream or "ok"}
    is_ready = store is None and upstream is None
    return answer({"status": "ready" if is_ready else "not ready", "checks": checks}, status=200 if is_ready else 503)


async def _check_store(house: House) -> str | None:
    """Commit nothing, synced: what a disk that is full or a file that is locked cannot do."""
    try:
        async with asyncio.timeout(_STORE_S):
            await house.store.commit([], durable=True)
    except StoreError as error:
        return error.message
    except TimeoutError:
        return f"the store did not answer within {_STORE_S:g} s"
    return None
