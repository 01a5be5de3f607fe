"""What pages of other origins are allowed: those of CORS_ORIGINS can call every route and read every header.

Invariant: an origin that is not listed gets neither `Access-Control-Allow-Origin` nor
`Access-Control-Allow-Private-Network`. A preflight needs no key; browsers send none.
"""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

__all__ = ["Cors", "as_browsers_write"]

_EXPOSED = ("*", "content-disposition", "openai-poll-after-ms", "retry-after", "retry-after-ms", "x-request-id")
"""`*` is every header, where no credentials are involved, and none are here. Older browsers take it for a name: the
others are those that clients need most."""


def as_browsers_write(origins: Sequence[str]) -> list[str]:
    """Return origins as browsers send them: in lower case, without a slash at the end."""
    return [origin.lower().rstrip("/") for origin in origins]


class Cors(CORSMiddleware):
    """Answers preflights, and marks the answers to pages of `origins`, errors included."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            # Chromium's Private Network Access: a page of a public address calls a private one. Its successor, Local
            # Network Access, asks the user instead and sends no header.
            allow_private_network=True,
            expose_headers=_EXPOSED,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight. Starlette 1.10 allows private networks also where it refuses the origin."""
        response = super().preflight_response(request_headers)
        if response.status_code != 200:
            del response.headers["access-control-allow-private-network"]
        return response
