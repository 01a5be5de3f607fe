"""Scopes: every route has one, and keys without it are refused."""

from contextlib import nullcontext
from typing import Any

import pytest

from api.app import _ROUTERS, Access, build_app
from wire.key_format import SCOPES, Scope

APP: Any = build_app(nullcontext, access=Access(hosts=None), version="0")  # type: ignore[arg-type] # never entered
PUBLIC = {"/", "/page/{name}", "/metrics", "/v1/health", "/v1/ready"}


def missing(granted: set[Scope], method: str, path: str) -> Scope | None:
    found: Scope | None = APP.state.route_scopes.missing(frozenset(granted), method, path)
    return found


def test_every_route_has_a_scope() -> None:
    scoped = [route for _, router in _ROUTERS for route in router.routes]
    own = [route for route in APP.routes if route.path not in ("/openapi.json", "/docs", "/docs/oauth2-redirect")]
    own = [route for route in own if hasattr(route, "methods")]  # not the files of the documentation
    assert len(own) > 70
    assert [route.path for route in own if route not in scoped] == []
    assert {route.path for scope, router in _ROUTERS for route in router.routes if scope == "public"} == PUBLIC


def test_a_key_without_scopes_is_refused_by_every_route_with_a_key() -> None:
    for scope, router in _ROUTERS:
        for route in router.routes:
            path: str = route.path.replace("{", "").replace("}", "")  # type: ignore[attr-defined]
            for method in route.methods:  # type: ignore[attr-defined]
                assert missing(set(), method, path) == (None if scope == "public" else scope), (method, path)


@pytest.mark.parametrize(
    ("method", "path", "enough"),
    [
        ("POST", "/v1/threads", {"inference"}),
        ("GET", "/v1/threads/thread_1", {"inference", "read"}),
        ("DELETE", "/v1/threads/thread_1", {"inference"}),
        ("POST", "/v1/threads/thread_1/runs", {"inference"}),
        ("POST", "/v1/chat/completions", {"inference"}),
        ("GET", "/v1/models", {"inference", "read"}),
        ("POST", "/v1/files", {"files"}),
        ("GET", "/v1/files/file-1/content", {"files", "read"}),
        ("POST", "/v1/vector_stores/vs_1/search", {"files"}),
        ("POST", "/v1/uploads/upload_1/parts", {"files"}),
        ("GET", "/v1/nothing", set(SCOPES)),
    ],
)
def test_each_scope_opens_its_routes(method: str, path: str, enough: set[Scope]) -> None:
    assert {scope for scope in SCOPES if missing({scope}, method, path) is None} == enough
