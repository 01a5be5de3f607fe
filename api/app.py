"""Builds the app: routes, access checks, and API documentation that works offline."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

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
    organization,
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
from api.key_ring import KeyRing
from api.page import build_page
from api.probes import is_probe
from api.readiness import Readiness
from api.route_paths import RoutePaths
from api.routers import operation_id
from api.scopes import RouteScope, RouteScopes
from api.unversioned_paths import UnversionedPaths
from fairness.fair_limits import FairLimit

__all__ = ["Access", "build_app"]

# `POST /threads/runs` comes before `POST /threads/{thread_id}`, which would match it
_HOT_ROUTER = build_hot_router((*threads.HOT_ENDPOINTS, *messages.HOT_ENDPOINTS, *runs.HOT_ENDPOINTS))

_ROUTERS: Final[Sequence[tuple[RouteScope, APIRouter]]] = (
    ("inference", _HOT_ROUTER),
    ("inference", assistants.router),
    ("inference", runs.router),
    ("inference", approvals.router),
    ("inference", threads.router),
    ("inference", messages.router),
    ("inference", steps.router),
    ("files", files.router),
    ("files", file_uploads.router),
    ("files", vector_stores.router),
    ("files", store_files.router),
    ("files", file_batches.router),
    ("inference", v1_files.router),
    ("inference", models.router),
    ("inference", chat.router),
    ("inference", embeddings.router),
    ("inference", forwarding.router),
    ("admin", organization.router),
    ("public", health.router),
    ("public", build_page()),
    ("public", metrics.router),
)
"""Each router with the scope that its routes require of a key."""

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
    """The access rules. `keys` maps the keys of API_KEYS to owners; with `hosts` None, any `Host` is allowed.

    `is_shared`: several owners have keys, so that none of them can use the whole capacity.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    hosts: Collection[str] | None = frozenset()
    origins: Sequence[str] = ()
    max_body_bytes: int = 10 * 1024 * 1024
    metrics_key: str = ""
    is_shared: bool = False


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
            langserve = (await asyncio.to_thread(_langserve, deps)).routes
            app.router.routes.extend(langserve)
            app.state.route_paths = RoutePaths(app.router.routes)
            app.state.route_scopes = _route_scopes(langserve)
            deps.runner.metrics.on_tokens = keys.limiter.count_tokens
            try:
                async with keys.following(deps.keys):
                    yield
            finally:
                app.router.routes[:] = routes  # the removed ones hold these dependencies; the next start adds its own

    requests, keys = RequestMetrics(), KeyRing(access.keys)
    middleware = [Middleware(AzureAddresses), Middleware(UnversionedPaths), Middleware(AccessLog, metrics=requests)]
    if origins := normalize_origins(access.origins):
        middleware.append(Middleware(Cors, origins=origins))
    middleware.append(
        Middleware(
            AccessControl,
            keys=keys,
            hosts=access.hosts,
            origins=origins,
            max_body_bytes=access.max_body_bytes,
            metrics_key=access.metrics_key,
            is_shared=access.is_shared,
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
    app.state.requests, app.state.version, app.state.keys = requests, version, keys
    app.state.ignores_unknown_fields = unknown_fields == "ignore"
    app.state.large_bodies = FairLimit(0, minimum=LARGE_AT_ONCE)
    serve_in_small_blocks(app)
    problems.install(app)
    for _, router in _ROUTERS:
        app.router.routes.extend(router.routes)  # see `api.routers.api_router`
    description.install(app)
    app.state.route_paths = RoutePaths(app.router.routes)
    app.state.route_scopes = _route_scopes()
    return app


def _route_scopes(langserve: Sequence[BaseRoute] = ()) -> RouteScopes:
    routers = [(scope, router.routes) for scope, router in _ROUTERS]
    return RouteScopes([*routers, ("inference", langserve)])


def _langserve(deps: Deps) -> APIRouter:
    """Return LangServe's routes. They take long to import and build, so only a starting server does it."""
    from api.langserve import build_router

    return build_router(deps)
