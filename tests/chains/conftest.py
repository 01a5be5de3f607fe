"""A scripted upstream per test, and connections to it that are closed afterwards."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from chains import CallLimits, RetryPolicy, Upstream
from tests.upstream import ScriptedUpstream

Connect = Callable[..., Awaitable[Upstream]]

FAST = CallLimits(idle_s=5.0, connect_s=2.0, retry=RetryPolicy(backoff_s=0.01, max_wait_s=0.2))


@pytest.fixture
def up() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as up:
        yield up


def certified(host: str) -> tuple[ssl.SSLContext, trustme.CA]:
    """Return a TLS server's certificate for that name, and the authority that issued it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context, authority


def trust(authority: trustme.CA, folder: Path, environment: pytest.MonkeyPatch) -> None:
    """Name the authority in SSL_CERT_FILE."""
    pem = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(pem))
    environment.setenv("SSL_CERT_FILE", str(pem))


@pytest.fixture
def secure_up() -> Iterator[tuple[ScriptedUpstream, trustme.CA]]:
    context, authority = certified("127.0.0.1")
    with ScriptedUpstream(ssl_context=context) as up:
        yield up, authority


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Open an Upstream at a URL; `limits` is short unless given."""
    async with AsyncExitStack() as stack:

        async def open_upstream(url: str | None, **settings: Any) -> Upstream:
            upstream = Upstream(url, **{"limits": FAST, **settings})
            await upstream.open()
            stack.push_async_callback(upstream.close)
            return upstream

        yield open_upstream
