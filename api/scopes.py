"""The scope that each route requires of a stored key. `api/app.py` names the scope where it registers a route.

Invariants: a route has a scope, or is public; registering it without one is not possible. `read` is enough for every
GET route, except those that require `admin`. A path without a route needs no scope: the app answers 404 or 405.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from starlette.routing import BaseRoute

from api.route_paths import RoutePaths
from wire.errors import Forbidden
from wire.key_format import DEFAULT_SCOPES, Scope

__all__ = ["RouteScope", "RouteScopes", "ScopedRoutes", "missing_scope"]

RouteScope: TypeAlias = Scope | Literal["public"]
"""`public`: the route needs no key, or checks another one itself (`/metrics`)."""

ScopedRoutes: TypeAlias = Sequence[tuple[RouteScope, Sequence[BaseRoute]]]


class RouteScopes:
    """Finds the scope of a request before routing."""

    def __init__(self, routes: Iterable[tuple[RouteScope, Sequence[BaseRoute]]]) -> None:
        by_scope: dict[RouteScope, list[BaseRoute]] = defaultdict(list)
        for scope, its_routes in routes:
            by_scope[scope] += its_routes
        self._admin = RoutePaths(by_scope.pop("admin", ()))
        self._others: Mapping[RouteScope, RoutePaths] = {scope: RoutePaths(each) for scope, each in by_scope.items()}

    def missing(self, granted: frozenset[Scope], method: str, path: str) -> Scope | None:
        """Return the scope that a request needs and does not have, or None if it is allowed."""
        if self._admin.matches(method, path):
            return None if "admin" in granted else "admin"
        if granted >= DEFAULT_SCOPES or ("read" in granted and method == "GET"):
            return None
        for scope, paths in self._others.items():
            if paths.matches(method, path):
                return None if scope == "public" or scope in granted else scope
        return None


def missing_scope(scope: Scope, method: str, path: str) -> Forbidden:
    """Return the error for a key that lacks a scope."""
    also = " or `read`" if method == "GET" and scope != "admin" else ""
    return Forbidden(
        f"You have insufficient permissions for this operation. Missing scopes: {scope}. {method} {path} needs a key "
        f"with the scope `{scope}`{also}.",
        code="insufficient_permissions",
    )
