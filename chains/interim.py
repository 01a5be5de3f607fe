"""Limits the informational responses (1xx) that an upstream sends before its answer.

aiohttp reads any number of them without yielding to other tasks, so a flood of them would block the event loop.
"""

from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError

__all__ = ["MAX_INTERIM", "LimitedInterimResponses"]

MAX_INTERIM: Final = 100


class LimitedInterimResponses(aiohttp.ClientResponse):
    """A response with at most `MAX_INTERIM` informational responses before it; more raise ClientResponseError."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read the head of the response."""
        try:
            return await super().start(_Counted(connection))  # type: ignore[arg-type]
        finally:
            if self._connection is not None:  # otherwise the response is complete, and the connection back in the pool
                self._connection = connection
            self._protocol = connection.protocol


class _Counted:
    """A connection whose protocol counts the heads that it reads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.protocol = _CountedProtocol(connection.protocol)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


class _CountedProtocol:
    def __init__(self, protocol: ResponseHandler | None) -> None:
        self._protocol = protocol
        self._heads = 0

    async def read(self) -> object:
        if self._heads > MAX_INTERIM:
            raise HttpProcessingError(code=502, message=f"more than {MAX_INTERIM} informational responses")
        self._heads += 1
        assert self._protocol is not None  # a connection has none once it is back in the pool
        return await self._protocol.read()

    def __getattr__(self, name: str) -> object:
        return getattr(self._protocol, name)
