"""Cross-origin requests: pages whose origin is in CORS_ORIGINS can call every route and read every header.

Invariant: an origin that is not listed gets neither `Access-Control-Allow-Origin` nor
`Access-Control-Allow-Private-Network`. A preflight needs no key, because browsers send none. It is counted and
scheduled like other requests without a key.
"""

from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.body_route import IGNORED
from api.problems import problem_response
from api.request_starts import CountedRequest, Group
from wire.errors import Problem

__all__ = ["Cors", "normalize_origins"]

_EXPOSED = (
    "*",
    "content-disposition",
    "openai-poll-after-ms",
    "retry-after",
    "retry-after-ms",
    "x-request-id",
    IGNORED,
)
"""`*` exposes every header to requests without credentials, the only kind that is allowed here. Older browsers read it
as a name, so the headers that clients use most are listed too."""


def normalize_origins(origins: Sequence[str]) -> list[str]:
    """Return origins as browsers send them: in lower case, without a trailing slash."""
    return [origin.lower().rstrip("/") for origin in origins]


_PREFLIGHT: Final = frozenset({b"origin", b"access-control-request-method"})


class Cors(CORSMiddleware):
    """Responds to preflights, and adds CORS headers to all other responses, errors included."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            # Chromium's Private Network Access: a page from a public address calls a private one. Its successor, Local
            # Network Access, asks the user instead and sends no header.
            allow_private_network=True,
            expose_headers=_EXPOSED,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not _is_preflight(scope):
            await super().__call__(scope, receive, send)
            return
        counted = CountedRequest(scope)
        try:
            await counted.start(Group())
            await super().__call__(scope, receive, send)
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)
        finally:
            counted.end()

    def preflight_response(self, request_headers: Headers) -> Response:
        """Respond to a preflight. Starlette 1.10 allows private networks even when it refuses the origin."""
        response = super().preflight_response(request_headers)
        if response.status_code != 200:
            del response.headers["access-control-allow-private-network"]
        return response


def _is_preflight(scope: Scope) -> bool:
    """Return whether Starlette responds to the request without calling the app."""
    return scope["method"] == "OPTIONS" and {name for name, _ in scope["headers"]} >= _PREFLIGHT
