"""Executes the operations of actions: takes the model's arguments and returns text for the model.

Invariants: every failure is returned as text; only cancellation is raised, and it closes the connection. Credentials
are sent only to the document's own origin, and the text contains none of their secrets. Redirects are followed here,
one by one, each checked. Owners share the connections, and an owner's hosts share the owner's part, so that an API that
does not answer delays no other.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpcore2
import httpx2

from fairness.fair_limits import REQUESTS, FairLimit
from graphs.tools.arguments import BadArguments, read_arguments
from graphs.tools.http_requests import MAX_URL_BYTES, Pairs, build_request
from graphs.tools.network import AddressRefused, AllowList, GuardedNetwork, Resolve, look_up
from graphs.tools.operations import Operation
from graphs.tools.responses import ApiResponse, read_response
from graphs.tools.streams import limit_reads
from graphs.tools.urls import check_url, join_url
from telemetry.context import current_owner
from wire.errors import ThreadholdError
from wire.json import JsonObject

__all__ = ["ActionCaller"]

MAX_REDIRECTS = 5

_CONNECTIONS: Final = 120
"""Concurrent requests of all owners, in addition to `_MIN_CALLS` that each owner can always have."""

_MIN_CALLS: Final = 4

_PORTION: Final = 4
"""A lone owner can use four fifths of `_CONNECTIONS`: four times as many as are left for others."""

_PER_HOST: Final = 48
"""An owner's concurrent requests to one host and port: about half of what the owner can have at most."""

_HEAD_BYTES: Final = 32 * 1024
"""Bytes of an answer's head, and of the interim answers before it."""

_FRAMING: Final = 8
"""Bytes on the wire per byte of content: a byte in a chunk of its own takes six."""

_USER_AGENT = "threadhold"
_log = logging.getLogger("threadhold.actions")


class _CallRefused(ThreadholdError):
    """The call is not made, or not continued; the message is for the model."""


@dataclass(slots=True)
class _Progress:
    """The state of a call: whether it waits for a connection."""

    waits: bool = False


class ActionCaller:
    """Calls APIs for runs; one for the whole server. Close it when the server stops.

    `allow_hosts` are the entries of `ACTIONS_ALLOW_HOSTS`. `timeout_s` limits a whole call, including its wait for a
    connection and its redirects, however slowly the answer arrives. At most `max_bytes` of an answer are read.
    `resolve` and `tls` replace the system's resolver and trust store.
    """

    def __init__(
        self,
        *,
        allow_hosts: Iterable[str] = (),
        timeout_s: float = 30.0,
        max_bytes: int = 65_536,
        resolve: Resolve = look_up,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._pool = httpcore2.AsyncConnectionPool(
            # trust_env off: only server.py reads environment variables, and SSL_CERT_FILE is one.
            ssl_context=tls or httpx2.create_ssl_context(trust_env=False),
            max_connections=None,  # `_connections` limits them, so that no owner can use them all
            max_keepalive_connections=20,
            keepalive_expiry=15.0,
            network_backend=GuardedNetwork(AllowList(allow_hosts), resolve),
        )
        self._connections = FairLimit(_CONNECTIONS, minimum=_MIN_CALLS, portion=_PORTION)
        self._hosts = FairLimit(0, minimum=_PER_HOST)

    async def call(self, operation: Operation, arguments: str, *, call_id: str) -> str:
        """Return the text for the model: the body of a 2xx answer, otherwise status and body, or the error.

        `arguments` is the model's JSON text; `call_id` becomes the `Idempotency-Key`.
        """
        progress = _Progress()
        try:
            values, unknown = await read_arguments(operation, arguments)
            async with asyncio.timeout(self._timeout_s):
                # In a thread, because a request of the maximum size takes a few tenths of a second.
                request = await REQUESTS.run(current_owner(), _first_request, operation, values, call_id)
                answer = await self._follow(operation, request, progress)
            text = answer.text
        except BadArguments as error:
            return f"The arguments of `{operation.name}` cannot be used: {error}."
        except _CallRefused as error:
            text = f"`{operation.name}` was not carried out: {error}."
        except AddressRefused:
            text = f"`{operation.name}` was not carried out: its host is not one that this server is allowed to call."
        except TimeoutError:
            text = _late(operation.name, self._timeout_s, progress)
        except _FAILURES as error:
            _log.info("action %s failed: %s", operation.name, type(error).__name__)
            text = f"`{operation.name}` failed: {_reason(error)}."
        else:
            if unknown:
                text += (
                    f"\n\n(Arguments that `{operation.name}` does not have were left out: {', '.join(unknown)[:300]}.)"
                )
        return operation.credentials.hide(text)

    async def close(self) -> None:
        """Close every connection; calls that are still waiting fail."""
        await self._pool.aclose()

    async def _follow(self, operation: Operation, request: httpx2.Request, progress: _Progress) -> ApiResponse:
        credentials = operation.credentials
        first_origin = _origin(request.url)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._connection(request.url.netloc.decode("ascii"), progress):
                read_limit = limit_reads(_HEAD_BYTES)
                response = await self._send(request)
                read_limit.left = _FRAMING * (self._max_bytes + credentials.longest()) + _HEAD_BYTES
                try:
                    location = next((value for name, value in response.headers if name.lower() == b"location"), None)
                    if location is None or response.status not in (301, 302, 303, 307, 308):
                        return await read_response(response, max_bytes=self._max_bytes, credentials=credentials)
                finally:
                    await response.aclose()
            request = _next_request(request, response.status, location, first_origin)
        raise _CallRefused(f"it was redirected more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def _connection(self, host: str, progress: _Progress) -> AsyncIterator[None]:
        """Hold one of the current owner's connections. The host's slot is acquired first, so that a wait for
        one host delays no other."""
        owner = current_owner()
        progress.waits = True
        async with self._hosts.slot(f"{owner} {host}"), self._connections.slot(owner):
            progress.waits = False
            yield

    async def _send(self, request: httpx2.Request) -> httpcore2.Response:
        url = httpcore2.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        limits = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)
        return await self._pool.handle_async_request(
            httpcore2.Request(
                method=request.method,
                url=url,
                headers=request.headers.raw,
                content=request.content or None,
                extensions={"timeout": limits},
            )
        )


_FAILURES = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
    httpx2.HTTPError,
    httpx2.InvalidURL,
    ssl.SSLError,
    OSError,
    RecursionError,
    ValueError,
)


def _first_request(operation: Operation, arguments: JsonObject, call_id: str) -> httpx2.Request:
    """Return the request with its credentials. Raises BadArguments, _CallRefused."""
    call = build_request(operation, arguments)
    credentials = operation.credentials
    own = {name.lower() for name, _ in credentials.headers}
    cookies = [value for name, value in call.headers if name == "Cookie"]
    cookies += [f"{name}={value}" for name, value in credentials.cookies]
    headers: Pairs = [(name, value) for name, value in call.headers if name != "Cookie" and name.lower() not in own]
    given = own | {name.lower() for name, _ in headers}
    # No compression is requested: the limit then counts the bytes that were sent.
    ours = {"Accept": "application/json, text/*;q=0.9, */*;q=0.1", "User-Agent": _USER_AGENT}
    headers += [(name, value) for name, value in ours.items() if name.lower() not in given]
    headers += [*credentials.headers, ("Accept-Encoding", "identity"), ("Idempotency-Key", call_id)]
    if cookies:
        headers.append(("Cookie", "; ".join(cookies)))
    url = call.url
    if credentials.query:
        pairs = httpx2.QueryParams(list(credentials.query))
        url += ("&" if "?" in url else "?") + str(pairs)
    return _request(call.method, url, headers, content=call.content, files=call.files)


def _request(method: str, url: str, headers: Pairs, *, content: bytes | None, files: object = None) -> httpx2.Request:
    if len(url) > MAX_URL_BYTES:
        raise _CallRefused(f"its URL has {len(url)} characters, including its key; at most {MAX_URL_BYTES} are allowed")
    if problem := check_url(url):
        raise _CallRefused(f"its URL {problem}")
    encoded = [(name.encode("ascii"), value.encode("utf-8")) for name, value in headers]
    request = httpx2.Request(method, url, headers=encoded, content=content, files=files)  # type: ignore[arg-type]
    request.read()  # encodes multipart fields here, in the thread, instead of one by one on the event loop
    return request


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


# The headers that are kept when the origin changes: none that identifies us, and none of the action's own.
_KEPT_ACROSS_ORIGINS = frozenset({"accept", "accept-encoding", "user-agent", "content-type", "idempotency-key"})


def _next_request(
    request: httpx2.Request, status: int, location: bytes, first_origin: tuple[str, str, int | None]
) -> httpx2.Request:
    try:
        target = join_url(str(request.url), location.decode("utf-8", "replace").strip())
    except ValueError as error:
        raise _CallRefused(f"it was redirected to a URL that cannot be called: {error}") from None
    if problem := check_url(target):
        raise _CallRefused(f"it was redirected to a URL that {problem}")
    url = httpx2.URL(target)
    method, content = request.method, request.content or None
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, content = "GET", None
    dropped = {"host", "content-length", "transfer-encoding"} | ({"content-type"} if content is None else set())
    headers = [
        (name.decode("ascii"), value.decode("utf-8"))
        for name, value in request.headers.raw
        if name.lower().decode("ascii") not in dropped
        and (_origin(url) == first_origin or name.lower().decode("ascii") in _KEPT_ACROSS_ORIGINS)
    ]
    return _request(method, target, headers, content=content)


def _late(name: str, timeout_s: float, progress: _Progress) -> str:
    if progress.waits:
        return (
            f"`{name}` was not carried out: {timeout_s:g} seconds passed before it could be sent, as too many other "
            "calls wait for their answers."
        )
    return f"`{name}` was stopped: no complete answer within {timeout_s:g} seconds."


def _reason(error: Exception) -> str:
    match error:
        case httpcore2.TimeoutException():
            return "the server did not answer in time"
        case ssl.SSLError():
            return "no secure connection to the server could be made"
        case httpcore2.ConnectError():
            certificate = isinstance(error.__cause__, ssl.SSLError) or "certificate" in str(error).lower()
            return "no secure connection to the server could be made" if certificate else "the server cannot be reached"
        case httpcore2.NetworkError():
            return "the connection broke before the answer was complete"
        case httpcore2.ProtocolError():
            return "the server's answer is not proper HTTP"
        case _:
            return "the request could not be made"
