"""When a model call is retried: one policy for all upstreams, and one count for each call.

Invariants: a call is retried only before the first text or tool call of its answer, and only after a transient failure.
All retries of a call count together, whatever failed: the connection, the status or the stream. Every wait has a limit.

Requests that are passed through are not retried, as the clients' SDKs do that. The libraries of LangChain's providers
retry by themselves, unless their `ProviderApi` turns that off.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

__all__ = ["Retries", "RetryPolicy", "is_transient", "retry_after_s"]

_SHOULD_RETRY: Final = {"true": True, "false": False}
"""Values of `x-should-retry`, by which OpenAI's and Anthropic's servers override their SDKs' choice."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a call is retried, and after which waits.

    The first wait is `backoff_s` and each is twice the one before, up to `max_backoff_s`. `Retry-After` replaces it.
    No wait is longer than `max_wait_s`.
    """

    retries: int = 2
    backoff_s: float = 0.5
    max_backoff_s: float = 8.0
    max_wait_s: float = 60.0

    def delay_s(self, attempt: int, headers: Mapping[str, str] | None = None) -> float:
        """Return the wait before retry number `attempt` (from 0). `headers` are those of the upstream's response."""
        asked_s = retry_after_s(headers) if headers is not None else None
        if asked_s is None:
            backoff_s: float = self.backoff_s * 2.0**attempt
            asked_s = min(backoff_s, self.max_backoff_s) * random.uniform(0.75, 1.0)
        return min(asked_s, self.max_wait_s)


class Retries:
    """The retries of one call."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._used = 0

    async def wait_to_retry(self, *, transient: bool = True, headers: Mapping[str, str] | None = None) -> bool:
        """Wait for the next attempt and return True; return False immediately if the call is not retried any more.

        `transient` means that the failure can pass by itself; `headers` are those of the upstream's response.
        """
        if headers is not None:
            transient = _SHOULD_RETRY.get(headers.get("x-should-retry", ""), transient)
        if not transient or self._used >= self._policy.retries:
            return False
        await asyncio.sleep(self._policy.delay_s(self._used, headers))
        self._used += 1
        return True


def is_transient(error: Exception) -> bool:
    """Whether the request failed before the upstream started to work on it.

    A read timeout is not transient: a retry would only add to a slow model's load.
    """
    never = (aiohttp.SocketTimeoutError, aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError)
    return isinstance(error, aiohttp.ClientConnectionError | TimeoutError | OSError) and not isinstance(error, never)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the wait that `retry-after-ms` or `Retry-After` (seconds or an HTTP date) asks for, if either does."""
    millis = headers.get("retry-after-ms")
    value = headers.get("Retry-After")
    try:
        if millis is not None:
            return max(0.0, float(millis) / 1000)
        if value is None:
            return None
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value or "").timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
