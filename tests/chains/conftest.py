"""A scripted upstream per test, and connections to it that are closed again."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trustme

from chains import Patience, Upstream
from tests.upstream import ScriptedUpstream

Connect = Callable[..., Awaitable[Upstream]]

FAST = Patience(idle_s=5.0, connect_s=2.0, backoff_s=0.01, retry_after_max_s=0.2)


@pytest.fixture
def up() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as up:
        yield up


@pytest.fixture
def secure_up() -> Iterator[tuple[ScriptedUpstream, trustme.CA]]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ScriptedUpstream(ssl_context=context) as up:
        yield up, authority


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Open an Upstream at a URL; `patience` is short unless given."""
    async with AsyncExitStack() as stack:

        async def open_upstream(url: str | None, **settings: Any) -> Upstream:
            upstream = Upstream(url, **{"patience": FAST, **settings})
            await upstream.open()
            stack.push_async_callback(upstream.close)
            return upstream

        yield open_upstream
