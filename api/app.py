"""Builds the app: routes, access checks, and API documentation that works offline."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.middleware import Middleware

from api import (
    approvals,
    assistants,
    chat,
    description,
    embeddings,
    file_batches,
    file_uploads,
    files,
    forwarding,
    health,
    messages,
    metrics,
    models,
    problems,
    runs,
    steps,
    store_files,
    threads,
    v1_files,
    vector_stores,
)
from api.access import AccessControl
from api.access_log import AccessLog, RequestMetrics
from api.azure import AzureAddresses
from api.body_threads import LARGE_AT_ONCE
from api.cors import Cors, normalize_origins
from api.depends import Deps
from api.docs_files import serve_in_small_blocks
from api.hot_routes import build_hot_router
from api.page import build_page
from api.probes import is_probe
from api.readiness import Readiness
from api.route_paths import RoutePaths
from api.routers import operation_id
from api.unversioned_paths import UnversionedPaths
from fairness.fair_limits import FairLimit

__all__ = ["Access", "build_app"]

# `POST /threads/runs` comes before `POST /threads/{thread_id}`, which would match it
_HOT_ROUTER = build_hot_router((*threads.HOT_ENDPOINTS, *messages.HOT_ENDPOINTS, *runs.HOT_ENDPOINTS))

_ROUTERS = (
    assistants,
    runs,
    approvals,
    threads,
    messages,
    steps,
    files,
    file_uploads,
    vector_stores,
    store_files,
    file_batches,
    v1_files,
    models,
    chat,
    embeddings,
    forwarding,
    health,
)

_DESCRIPTION = (
    "A self-hosted, drop-in server for OpenAI's Assistants API (v2, and what v1 clients still send), on any model. "
    "Every route also exists without `/v1`."
)


_TELEMETRY: TelemetryConfig = {
    "metrics": False,  # `/metrics` exports them
    "logs": False,  # they would contain error messages
    "operation_spans": False,
    "auto_configure": False,  # `api.tracing` does it
    "exclude": lambda scope: is_probe(scope.get("path", "")),
}
"""If OpenTelemetry is set up, FastAPI makes a span of each request, in the trace of the client's `traceparent`."""


@dataclass(frozen=True, slots=True)
class Access:
    """The access rules. `keys` maps keys to owners; with `hosts` None, any `Host` is allowed."""

    keys: Mapping[str, str] = field(default_factory=dict)
    hosts: Collection[str] | None = frozenset()
    origins: Sequence[str] = ()
    max_body_bytes: int = 10 * 1024 * 1024
    metrics_key: str = ""


def build_app(
    open_deps: Callable[[], AbstractAsyncContextManager[Deps]],
    *,
    access: Access,
    version: str,
    unknown_fields: Literal["refuse", "ignore"] = "refuse",
) -> FastAPI:
    """Build the app; `open_deps` is entered while it serves."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_deps() as deps, aclosing(Readiness(deps)) as readiness:
            app.state.deps, app.state.readiness = deps, readiness
            routes = list(app.router.routes)
            app.router.routes.extend((await asyncio.to_thread(_langserve, deps)).routes)
            app.state.route_paths = RoutePaths(app.router.routes)
            try:
                yield
            finally:
                app.router.routes[:] = routes  # the removed ones hold these dependencies; the next start adds its own

    requests = RequestMetrics()
    middleware = [Middleware(AzureAddresses), Middleware(UnversionedPaths), Middleware(AccessLog, metrics=requests)]
    if origins := normalize_origins(access.origins):
        middleware.append(Middleware(Cors, origins=origins))
    middleware.append(
        Middleware(
            AccessControl,
            keys=access.keys,
            hosts=access.hosts,
            origins=origins,
            max_body_bytes=access.max_body_bytes,
            metrics_key=access.metrics_key,
        )
    )
    app: FastAPI = FastAPIOffline(
        title="Threadhold",
        version=version,
        description=_DESCRIPTION,
        lifespan=lifespan,
        middleware=middleware,
        redoc_url=None,
        telemetry=_TELEMETRY,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    app.state.requests, app.state.version = requests, version
    app.state.ignores_unknown_fields = unknown_fields == "ignore"
    app.state.large_bodies = FairLimit(0, minimum=LARGE_AT_ONCE)
    serve_in_small_blocks(app)
    problems.install(app)
    for router in (_HOT_ROUTER, *(each.router for each in _ROUTERS), build_page(), metrics.router):
        app.router.routes.extend(router.routes)  # see `api.routers.api_router`
    description.install(app)
    app.state.route_paths = RoutePaths(app.router.routes)
    return app


def _langserve(deps: Deps) -> APIRouter:
    """Return LangServe's routes. They take long to import and build, so only a starting server does it."""
    from api.langserve import build_router

    return build_router(deps)
