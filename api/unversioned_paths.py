"""Maps paths of the API without `/v1` to those with it, before anything else sees them: each route exists once."""

from collections.abc import Awaitable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["VERSION_PREFIX", "UnversionedPaths"]

VERSION_PREFIX: Final = "/v1"


class UnversionedPaths:
    """Maps the paths of the API's routes for `app`, whatever the method; all other paths stay.

    Not a coroutine itself, so that a path with `/v1` costs one comparison. It needs `route_paths` in the app's state.
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
