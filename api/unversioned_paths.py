"""Adds `/v1` to API paths that lack it, before the access log, access checks and routing: each route exists once."""

from collections.abc import Awaitable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["VERSION_PREFIX", "UnversionedPaths"]

VERSION_PREFIX: Final = "/v1"


class UnversionedPaths:
    """Adds `/v1` to a path if the API has a route for the result, with any method. Other paths are unchanged.

    `__call__` is not a coroutine function, so a path with `/v1` costs one comparison. It requires `route_paths` in the
    app's state.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one request."""
        if scope["type"] == "http" and not scope["path"].startswith(VERSION_PREFIX):
            path = f"{VERSION_PREFIX}{scope['path']}"
            if scope["app"].state.route_paths.methods(path):
                raw = scope.get("raw_path")
                scope = {**scope, "path": path, "raw_path": raw and VERSION_PREFIX.encode() + raw}
        return self._app(scope, receive, send)
