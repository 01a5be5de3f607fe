"""Checks host, origin, key and body of every request before it reaches a route. Pure ASGI, so streams pass unchanged.

Invariants: a body is JSON of limited size, or a file that is streamed to disk. A page of another origin cannot post. A
client without a key learns nothing. An unexpected error is answered with 500 and logged with the request's id.

The body of a request is not read if its head is enough for a refusal: by host, origin or key, or because no route
accepts a body. Other sites cannot show a page of this server in a frame.
"""

import hmac
import logging
import math
import re
from collections.abc import Collection, Mapping
from typing import Final, Literal
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.bodies import read_body
from api.body_memory import BodyMemory, MemoryClaim
from api.cycles import BROKEN_OFF
from api.form_slots import MAX_FORMS, FormSlot
from api.forwarding import FORM_PATHS
from api.head import head_of
from api.hosts import LOOPBACK, host_name
from api.json_response import json_response
from api.key_ring import Grant, KeyRing
from api.large_responses import BrokenOff, LargeResponse
from api.probes import is_probe
from api.problems import problem_response
from api.request_starts import CountedRequest, Group
from api.scopes import RouteScopes, missing_scope
from api.uploads import is_form
from fairness.fair_limits import FairLimit
from telemetry.context import current_key, set_current_key, set_current_owner
from telemetry.tracebacks import clear_tracebacks
from wire.errors import Forbidden, Problem, Unauthorized
from wire.paths import truncated

__all__ = ["AccessControl"]

logger = logging.getLogger("threadhold.api")

_PUBLIC: Final = frozenset({"/", "/v1/health", "/v1/ready", "/docs", "/openapi.json"})
_PUBLIC_FOLDERS: Final = ("/page/", "/docs/", "/static-offline-docs/")
_PLAYGROUNDS: Final = ("/chat/playground", "/assistant/playground")
_PARTS: Final = re.compile(r"/uploads/[^/]+/parts")
_UNFRAMED: Final = ((b"content-security-policy", b"frame-ancestors 'none'"), (b"x-frame-options", b"DENY"))
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class AccessControl:
    """Passes requests to `app`, or refuses them.

    `keys` checks the keys. `hosts` are the names that `Host` can have besides the loopback ones; None allows any. Pages
    of `origins` can post, besides those of the server's own origin. `is_shared`: there are several owners.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        hosts: Collection[str] | None,
        origins: Collection[str],
        max_body_bytes: int,
        metrics_key: str = "",
        is_shared: bool = False,
    ) -> None:
        self._app = app
        self._keys = keys
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._origins = frozenset(origins)
        self._max_body_bytes = max_body_bytes
        self._is_shared = is_shared
        self._bodies = BodyMemory(max_body_bytes, is_shared=self._is_shared)
        self._forms = FairLimit(MAX_FORMS, portion=1 if self._is_shared else math.inf)
        self._metrics_key = metrics_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        outgoing = LargeResponse(scope, send, self._bodies)
        held: MemoryClaim | FormSlot | None = None
        counted = CountedRequest(scope)
        try:
            try:
                body = self._admit(scope)
            finally:  # refusals are counted and scheduled, too
                await counted.start(self._group(scope))
            if body == "json":
                held = MemoryClaim(self._bodies, scope["state"]["owner"])
                receive = await read_body(scope, receive, self._max_body_bytes, held)
            elif body == "form":
                held = FormSlot(self._forms, scope["state"]["owner"])
                receive = held.receiver(receive)
            await self._answer(scope, receive, outgoing)
            if outgoing.refusal is not None:
                raise outgoing.refusal
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)
        except Exception as unexpected:
            request_id = scope["state"]["request_id"]
            logger.exception("request %s (%s %s) failed", request_id, scope["method"], scope["path"])
            if outgoing.started:
                raise
            clear_tracebacks(unexpected)
            message = f"The server had an error while processing your request. Its log has more, under {request_id}."
            error = {"message": message, "type": "server_error", "param": None, "code": None}
            await json_response({"error": error}, status=500)(scope, receive, send)
        finally:
            if held is not None:
                held.release()
            counted.end()

    async def _answer(self, scope: Scope, receive: Receive, outgoing: LargeResponse) -> None:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                _forbid_frames(message)
                self._add_limits(message)
            await outgoing.send(message)

        try:
            await self._app(scope, receive, send)
        except BrokenOff as error:  # the connection closes because the answer is incomplete
            if outgoing.refusal is None:
                logger.warning("an answer was aborted: %s", error)
                scope["state"][BROKEN_OFF] = True

    def _add_limits(self, start: Message) -> None:
        """Add the limits of the request's key to the head of its answer."""
        if key := current_key():
            limits = self._keys.limiter.headers(key).items()
            start["headers"] = [*start["headers"], *((name.encode(), value.encode()) for name, value in limits)]

    def _admit(self, scope: Scope) -> Literal["json", "form", "none"]:
        """Check everything that needs no route. Return which body the request has: `json` is read now, a form later.

        Raises Problem.
        """
        headers = head_of(scope)
        self._check_host(scope, headers)
        self._check_origin(scope, headers)
        state: dict[str, object] = scope.setdefault("state", {})
        grant = self._grant(scope, headers)
        state["owner"] = owner = "" if grant is None else grant.owner
        set_current_owner(owner)
        set_current_key("" if grant is None or grant.key is None else grant.key.id)
        if grant is not None:
            self._check_scope(grant, scope)
            if grant.key is not None:
                self._keys.limiter.admit(grant.key.id, owner, scope["method"])
        if scope["method"] in _SAFE:
            return "none"
        if not scope["app"].state.route_paths.matches(scope["method"], scope["path"]):
            return "none"  # the app answers 404 or 405
        if is_form(headers) and _takes_form(scope["path"].removeprefix("/v1")):
            return "form"  # it is streamed to disk later, and limited there
        return "json"

    def _group(self, scope: Scope) -> Group:
        if is_probe(scope["path"]):
            return Group(is_probe=True)
        owner: str = scope["state"].get("owner", "")
        return Group(owner, is_alone=bool(owner) and not self._is_shared)

    def _check_host(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Refuse unknown host names: an attacker's name that resolves to this address would give the attacker's page
        access to the server (DNS rebinding)."""
        host = headers.get("host", "")
        name = host_name(host)
        if [name for name, _ in scope["headers"]].count(b"host") > 1:
            raise Forbidden("The request has more than one `Host`.")
        if name is None:
            raise Forbidden(f"Host '{truncated(host)}' is not a name or an address with an optional port.")
        if self._hosts is None or (not host and scope["http_version"] < "1.1"):
            return  # `Host` is optional in HTTP/1.0, which no browser uses
        if name not in LOOPBACK and name not in self._hosts:
            raise Forbidden(f"Host '{truncated(host)}' is not allowed; name it in ALLOWED_HOSTS.")

    def _check_origin(self, scope: Scope, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        if origin is None or scope["method"] in _SAFE or origin in self._origins or "*" in self._origins:
            return
        try:
            netloc = urlsplit(origin).netloc
        except ValueError:
            netloc = None
        if netloc is None or netloc != headers.get("host"):
            raise Forbidden(f"Origin '{truncated(origin)}' is not allowed; name it in CORS_ORIGINS.")

    def _grant(self, scope: Scope, headers: Mapping[str, str]) -> Grant | None:
        """Return what the request is allowed to do; None for public paths. Raises Unauthorized, Forbidden."""
        path = scope["path"]
        if path == "/metrics":
            self._check_metrics_key(headers)
            return None
        if self._keys.is_open:
            return self._keys.open_grant
        if path in _PUBLIC or path.startswith(_PUBLIC_FOLDERS):
            return None
        if path.startswith(_PLAYGROUNDS):
            raise Unauthorized(
                "The playgrounds are closed while the server requires keys: their pages cannot send a key. Use the "
                "page at /, or LangServe's RemoteRunnable with an Authorization header."
            )
        peer = _peer(scope)
        grants = [self._keys.grant(given, peer) for given in _sent_keys(headers)]
        if (grant := next(filter(None, grants), None)) is None:
            raise _incorrect()
        return grant

    def _check_scope(self, grant: Grant, scope: Scope) -> None:
        if grant.scopes is self._keys.open_grant.scopes:
            return
        scopes: RouteScopes = scope["app"].state.route_scopes
        method, path = scope["method"], scope["path"]
        if (missing := scopes.missing(grant.scopes, method, path)) is not None:
            self._keys.note_missing_scope(grant, missing, _peer(scope))
            raise missing_scope(missing, method, truncated(path))

    def _check_metrics_key(self, headers: Mapping[str, str]) -> None:
        """Metrics are about all owners, so no owner's key gives access to them. A loopback peer gives no access either,
        because it can be a proxy on this machine."""
        if self._metrics_key and not any(hmac.compare_digest(self._metrics_key, key) for key in _sent_keys(headers)):
            raise _incorrect()
        if not self._keys.is_open and not self._metrics_key:
            raise Forbidden(
                "/metrics is closed while the server requires keys. Set METRICS_KEY, and send it as a Bearer key."
            )


def _forbid_frames(start: Message) -> None:
    """Keep a web page out of frames: a framing page could make users click what they do not see. The page at `/` has
    a policy of its own, which includes this."""
    headers = start.get("headers", ())
    kind = next((value for name, value in headers if name == b"content-type"), b"")
    if kind.startswith(b"text/html"):
        names = {name for name, _ in headers}
        start["headers"] = [*headers, *(each for each in _UNFRAMED if each[0] not in names)]


def _takes_form(path: str) -> bool:
    return path == "/files" or path in FORM_PATHS or _PARTS.fullmatch(path) is not None


def _sent_keys(headers: Mapping[str, str]) -> list[bytes]:
    """Return the keys in the request: as Bearer, and as `api-key`, which Azure's clients send.

    Raises Unauthorized if there is none.
    """
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    sent = (bearer if scheme.lower() == "bearer" else "", headers.get("api-key", ""))
    keys = [key.strip().encode() for key in sent if key.strip()]
    if not keys:
        raise Unauthorized(
            "You didn't provide an API key. You need to provide your API key in an Authorization header using "
            "Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or in an api-key header.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return keys


def _peer(scope: Scope) -> str:
    """Return the address of the client, or of the proxy in front of it."""
    client: tuple[str, int] | None = scope.get("client")
    return "an unknown address" if client is None else client[0]


def _incorrect() -> Unauthorized:
    return Unauthorized("Incorrect API key provided.", headers={"WWW-Authenticate": "Bearer"})
