"""The limits of stored keys: requests and tokens a minute, as OpenAI applies and reports them.

Each limit is a token bucket: it holds one minute's amount and refills evenly, so a key that was idle can use a minute's
amount at once. Requests are counted when they arrive; GET requests are not, because clients poll runs with them. Tokens
are counted when a model has reported them, and not estimated before: a request that starts while tokens are left can
use more than that, and further requests wait until the bucket has refilled.

Invariant: each process counts the requests that it serves and the tokens of the models that it calls. With several
processes, a key can use its limits in each of them.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from store.ports import StoredKey
from wire.errors import KeyLimitReached

__all__ = ["KeyLimiter"]

_MINUTE_S: Final = 60.0
_UNCOUNTED: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_What = Literal["requests", "tokens"]
_NAMES: Final[Mapping[_What, str]] = {
    "requests": "requests per min (RPM)",
    "tokens": "tokens per min (TPM)",
}


@dataclass(slots=True)
class _Bucket:
    """`left` at the time `at`; negative after more was used than there was."""

    limit: int
    left: float
    at: float

    def refill(self, now: float) -> None:
        self.left = min(float(self.limit), self.left + (now - self.at) * self.limit / _MINUTE_S)
        self.at = now

    def seconds_until(self, amount: float) -> float:
        return max(0.0, amount - self.left) * _MINUTE_S / self.limit


class KeyLimiter:
    """The buckets of the keys that have limits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, dict[_What, _Bucket]] = {}

    def set_keys(self, keys: Mapping[str, StoredKey]) -> None:
        """Replace the keys. Those with the same limit keep what they have used."""
        former, now = self._buckets, self._clock()
        self._buckets = {}
        for id, key in keys.items():
            wanted: dict[_What, int | None] = {"requests": key.limits.requests, "tokens": key.limits.tokens}
            buckets = {
                what: _same(former.get(id, {}).get(what), limit) or _Bucket(limit, limit, now)
                for what, limit in wanted.items()
                if limit is not None
            }
            if buckets:
                self._buckets[id] = buckets

    def admit(self, key_id: str, owner: str, method: str) -> None:
        """Count a request. Raises KeyLimitReached, and counts nothing then."""
        buckets = self._buckets.get(key_id)
        if buckets is None or method in _UNCOUNTED:
            return
        now = self._clock()
        for what, bucket in buckets.items():
            bucket.refill(now)
            if bucket.left < 1:
                raise self._refusal(what, bucket, key_id, owner)
        if (requests := buckets.get("requests")) is not None:
            requests.left -= 1

    def count_tokens(self, key_id: str, tokens: int) -> None:
        """Count tokens that a model has reported."""
        bucket = self._buckets.get(key_id, {}).get("tokens")
        if bucket is not None:
            bucket.refill(self._clock())
            bucket.left -= tokens

    def headers(self, key_id: str) -> dict[str, str]:
        """Return OpenAI's `x-ratelimit-*` headers for a key; none if it has no limit."""
        now, headers = self._clock(), {}
        for what, bucket in self._buckets.get(key_id, {}).items():
            bucket.refill(now)
            headers[f"x-ratelimit-limit-{what}"] = str(bucket.limit)
            headers[f"x-ratelimit-remaining-{what}"] = str(max(0, math.floor(bucket.left)))
            headers[f"x-ratelimit-reset-{what}"] = _duration(bucket.seconds_until(bucket.limit))
        return headers

    def _refusal(self, what: _What, bucket: _Bucket, key_id: str, owner: str) -> KeyLimitReached:
        wait_s = bucket.seconds_until(1)
        used = bucket.limit - math.floor(bucket.left)
        requested = ", Requested 1" if what == "requests" else ""
        return KeyLimitReached(
            f"Rate limit reached for the key {key_id} of `{owner}` on {_NAMES[what]}: Limit {bucket.limit}, Used {used}"
            f"{requested}. Please try again in {_duration(wait_s)}.",
            limited=what,
            headers={
                "Retry-After": str(math.ceil(wait_s)),
                "retry-after-ms": str(math.ceil(wait_s * 1000)),
                **self.headers(key_id),
            },
        )


def _same(bucket: _Bucket | None, limit: int) -> _Bucket | None:
    return bucket if bucket is not None and bucket.limit == limit else None


def _duration(seconds: float) -> str:
    """Format seconds as OpenAI's headers do: 0s, 17ms, 8.64s, 6m0s, 1h2m3s."""
    if seconds < 1:
        ms = math.ceil(seconds * 1000)
        if ms < 1000:
            return f"{ms}ms" if ms else "0s"
    rest = math.ceil(seconds * 1000) / 1000
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours:.0f}h{minutes:.0f}m{text}"
    return f"{minutes:.0f}m{text}" if minutes else text
