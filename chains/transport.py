"""The HTTP transport to the upstream: one pooled session, retries, timeouts, proxies, TLS.

Invariants: a request is retried only before a successful answer is returned; redirects are not followed, so that no key
and no prompt reaches another host; closing an answer or cancelling a call closes its connection immediately.
"""

import asyncio
import io
import socket
import ssl
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from yarl import URL

from chains.endpoint import Endpoint, proxy_for
from chains.error_responses import ErrorResponse, read_error_response
from chains.forwarding import Outgoing
from chains.interim import LimitedInterimResponses
from chains.retries import Retries, RetryPolicy, is_transient
from telemetry.metrics import Counts
from wire.errors import RunError, UpstreamFailed

__all__ = ["DEFAULT_LIMITS", "CallLimits", "Transport", "failure"]

MAX_ERROR_BYTES: Final = 256 * 1024
_ERROR_BODY_S: Final = 5.0
_KEEPALIVE_S: Final = 15.0
_LARGE_BYTES: Final = 1024 * 1024
_MAX_POOLED: Final = 1000
"""Maximum dead pooled connections that one request tries."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The timeouts and the retry policy of a call. `idle_s` limits the silence before the first byte and between two
    reads."""

    idle_s: float = 600.0
    connect_s: float = 10.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)


DEFAULT_LIMITS: Final = CallLimits()


@dataclass(slots=True)
class _Attempt:
    """State of one attempt to send a request."""

    connects: bool = False
    """The attempt made a new connection, and used none from the pool."""


_ATTEMPT: ContextVar[_Attempt] = ContextVar("threadhold_attempt")


class Transport:
    """The HTTP session of one upstream. Requests before `open` or after `close` fail."""

    def __init__(
        self, endpoint: Endpoint, *, user_agent: str, limits: CallLimits, outcomes: Counts | None = None
    ) -> None:
        """`outcomes` counts requests by outcome: a kind of failure, or the meaning of the status."""
        self.outcomes = Counts() if outcomes is None else outcomes
        self.endpoint = endpoint
        self.limits = limits
        self._headers = {
            "User-Agent": user_agent,
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            **endpoint.headers(),
        }
        self._session: aiohttp.ClientSession | None = None
        self._proxy: str | None = None
        self._proxy_headers: dict[str, str] | None = None

    async def open(self) -> None:
        """Make the session and its TLS context, which uses the current SSL_CERT_FILE."""
        secure: ssl.SSLContext | bool = True
        if self.endpoint.base.startswith("https:"):
            secure = await asyncio.to_thread(ssl.create_default_context)
        proxy = proxy_for(self.endpoint.base)
        if proxy is not None:
            self._proxy, credentials = _split_credentials(proxy)
            if secure is True:
                self._headers |= credentials  # plain HTTP: the request itself goes to the proxy
            else:
                self._proxy_headers = credentials or None  # only the CONNECT does
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=secure, keepalive_timeout=_KEEPALIVE_S, socket_factory=_new_socket
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.limits.connect_s, sock_read=self.limits.idle_s),
            headers=self._headers,
            auto_decompress=True,
            response_class=LimitedInterimResponses,
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None
            await asyncio.sleep(0)  # connections release their sockets in the event loop's next iteration

    async def send(
        self, method: str, url: str, body: bytes | Outgoing | None = None, *, is_probe: bool = False
    ) -> aiohttp.ClientResponse:
        """Send a request once, and return the answer with any status.

        A dead kept-alive connection is replaced immediately, without counting an outcome. A probe asks for a feature
        that only some servers have: a 4xx answer to it is not counted either.

        Raises aiohttp.ClientError, TimeoutError or OSError; `failure` explains them.
        """
        if self._session is None:
            raise aiohttp.ClientConnectionError("the connection pool is closed")
        try:
            response = await self._request(self._session, method, url, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.outcomes[(failure(error, self.endpoint, idle_s=self.limits.idle_s).kind,)] += 1
            raise
        if not (is_probe and 400 <= response.status < 500):
            self.outcomes[(_meaning(response.status),)] += 1
        return response

    async def _request(
        self, session: aiohttp.ClientSession, method: str, url: str, body: bytes | Outgoing | None
    ) -> aiohttp.ClientResponse:
        failures = 0
        headers = None
        if isinstance(body, Outgoing):
            headers = {"Content-Type": body.content_type, "Content-Length": str(body.size)}
        while True:
            attempt = _Attempt()
            _ATTEMPT.set(attempt)
            try:
                return await session.request(
                    method,
                    url,
                    data=_payload(body),
                    headers=headers,
                    allow_redirects=False,
                    proxy=self._proxy,
                    proxy_headers=self._proxy_headers,
                )
            except (
                aiohttp.ServerDisconnectedError,
                aiohttp.ClientOSError,
                aiohttp.ClientConnectionResetError,  # no ClientOSError, though as much a dead connection
            ) as error:
                # Each iteration discards one pooled connection, so that the loop ends with a new one.
                failures += 1
                is_dead = not attempt.connects and failures < _MAX_POOLED
                if not is_dead or isinstance(error, TimeoutError | aiohttp.ClientConnectorError):
                    raise

    async def post(
        self, body: bytes, url: str | None = None, *, retries: Retries | None = None
    ) -> aiohttp.ClientResponse | ErrorResponse:
        """Post to `/chat/completions`, or to `url`. `retries` are those of the call that this request belongs to.

        Returns a 2xx answer, its body unread, or the last refusal.

        Raises RunError if there is no answer.
        """
        retries = retries or Retries(self.limits.retry)
        while True:
            try:
                response = await self.send("POST", url or self.endpoint.completions, body)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if not await retries.wait_to_retry(transient=is_transient(error)):
                    raise failure(error, self.endpoint, idle_s=self.limits.idle_s) from error
            else:
                if 200 <= response.status < 300:
                    return response
                error_response = await self.error_response(response)
                if not await retries.wait_to_retry(transient=error_response.retryable, headers=response.headers):
                    return error_response

    async def error_response(self, response: aiohttp.ClientResponse) -> ErrorResponse:
        """Parse an error answer and close it."""
        status = response.status
        if 300 <= status < 400:
            response.close()
            location = response.headers.get("Location", "nowhere")
            message = f"it redirects to {location[:200]}, which is not followed"
            return ErrorResponse(self.endpoint.redact(message), status=status)
        body = await self.error_body(response)
        return read_error_response(self.endpoint.redact(body.decode(errors="replace")).encode(), status=status)

    async def error_body(self, response: aiohttp.ClientResponse) -> bytes:
        """Read an error body, limited in time and to about `MAX_ERROR_BYTES`, then close the answer."""
        body = bytearray()
        try:
            async with asyncio.timeout(_ERROR_BODY_S):
                async for block in response.content.iter_any():
                    body += block
                    if len(body) > MAX_ERROR_BYTES:
                        break
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass  # the status is enough
        finally:
            response.release() if response.content.at_eof() else response.close()
        return bytes(body)


def _meaning(status: int) -> str:
    if status < 400:
        return "ok" if status < 300 else "redirected"
    if status >= 500:
        return "failed"
    return {401: "key_refused", 403: "key_refused", 429: "rate_limited"}.get(status, "refused")


def failure(error: Exception, endpoint: Endpoint, *, idle_s: float) -> RunError:
    """Return the error that explains why there is no answer, or why it broke off."""
    host = endpoint.host
    match error:
        case aiohttp.SocketTimeoutError():
            message = f"{host} was silent for {idle_s:g} s. See its log, or raise UPSTREAM_TIMEOUT_S."
            return UpstreamFailed(message, kind="silent")
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return UpstreamFailed(
                f"{host} did not accept the connection in time. Check {endpoint.setting} and the network.",
                kind="unreachable",
            )
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            reason = endpoint.redact(str(error))
            message = f"TLS with {host} failed: {reason}. Set SSL_CERT_FILE to the certificate authority's file."
            return UpstreamFailed(message, kind="tls")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return UpstreamFailed(
                f"The proxy on the way to {host} failed ({_kind(error)}). Check HTTPS_PROXY, NO_PROXY.", kind="proxy"
            )
        case aiohttp.ClientConnectorError():
            reason = error.os_error.strerror or "name not found"
            return UpstreamFailed(
                f"{host} cannot be reached: {reason}. Is the upstream running, and {endpoint.setting} right?",
                kind="unreachable",
            )
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | ConnectionError():
            message = f"{host} closed the connection in the middle of the answer. See the upstream's log."
            return UpstreamFailed(message, kind="broke_off")
        case _:
            message = f"{host} gave no usable HTTP answer ({_kind(error)}). Check {endpoint.setting}."
            return UpstreamFailed(message, kind="garbage")


def _new_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Make a socket, and record that the attempt connects.

    aiohttp calls this within the request or a task of it. Its trace hooks report the same but cost a tenth of a
    request.
    """
    if (attempt := _ATTEMPT.get(None)) is not None:
        attempt.connects = True
    family, kind, protocol, *_ = address
    return socket.socket(family, kind, protocol)


def _split_credentials(proxy: str) -> tuple[str, dict[str, str]]:
    url = URL(proxy)
    if url.user is None:
        return proxy, {}
    auth = aiohttp.encode_basic_auth(url.user, url.password or "")
    return str(url.with_user(None)), {"Proxy-Authorization": auth}


def _kind(error: Exception) -> str:
    return type(error).__name__


def _payload(body: bytes | Outgoing | None) -> object:
    """Return a body as aiohttp sends it best: a large one in blocks, between which other tasks run."""
    if isinstance(body, Outgoing):
        return body.blocks()
    return io.BytesIO(body) if body is not None and len(body) > _LARGE_BYTES else body
