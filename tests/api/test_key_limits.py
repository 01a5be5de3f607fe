"""The limits of keys: buckets that refill, and OpenAI's headers and errors."""

from dataclasses import dataclass

import pytest

from api.key_limits import KeyLimiter
from store.ports import KeyLimits, StoredKey
from wire.errors import KeyLimitReached


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def limiter(clock: Clock, **limits: int) -> KeyLimiter:
    made = KeyLimiter(clock)
    made.set_keys({"th-1": stored(**limits)})
    return made


def stored(**limits: int) -> StoredKey:
    return StoredKey("th-1", "ann", "", b"", frozenset({"inference"}), 1, limits=KeyLimits(**limits))


def test_requests_beyond_the_limit_wait_for_their_share_of_the_minute() -> None:
    clock = Clock()
    limited = limiter(clock, requests=3)
    for left in ("2", "1", "0"):
        limited.admit("th-1", "ann", "POST")
        assert limited.headers("th-1")["x-ratelimit-remaining-requests"] == left
    with pytest.raises(KeyLimitReached) as refused:
        limited.admit("th-1", "ann", "POST")
    assert refused.value.headers == {
        "Retry-After": "20",
        "retry-after-ms": "20000",
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }
    error = refused.value.body()["error"]
    assert isinstance(error, dict)
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    clock.now += 20
    limited.admit("th-1", "ann", "POST")
    with pytest.raises(KeyLimitReached):
        limited.admit("th-1", "ann", "DELETE")


def test_reading_costs_nothing() -> None:
    limited = limiter(Clock(), requests=1)
    for _ in range(3):
        limited.admit("th-1", "ann", "GET")
    assert limited.headers("th-1")["x-ratelimit-remaining-requests"] == "1"


def test_tokens_are_paid_back_after_they_were_used() -> None:
    clock = Clock()
    limited = limiter(clock, tokens=600)
    limited.count_tokens("th-1", 900)
    assert limited.headers("th-1") == {
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m30s",
    }
    with pytest.raises(KeyLimitReached, match=r"TPM\): Limit 600, Used 900\. Please try again in 30\.1s"):
        limited.admit("th-1", "ann", "POST")
    clock.now += 30.2
    limited.admit("th-1", "ann", "POST")


def test_a_refusal_for_tokens_counts_no_request() -> None:
    limited = limiter(Clock(), requests=5, tokens=1)
    limited.count_tokens("th-1", 9)
    with pytest.raises(KeyLimitReached):
        limited.admit("th-1", "ann", "POST")
    assert limited.headers("th-1")["x-ratelimit-remaining-requests"] == "5"


def test_a_change_of_other_keys_keeps_what_was_used() -> None:
    limited = limiter(Clock(), requests=2)
    limited.admit("th-1", "ann", "POST")
    limited.set_keys({"th-1": stored(requests=2), "th-2": stored()})
    assert limited.headers("th-1")["x-ratelimit-remaining-requests"] == "1"
    limited.set_keys({"th-1": stored(requests=7)})
    assert limited.headers("th-1")["x-ratelimit-remaining-requests"] == "7"


def test_keys_without_limits_have_no_headers() -> None:
    limited = limiter(Clock())
    limited.admit("th-1", "ann", "POST")
    limited.count_tokens("th-1", 10**9)
    assert limited.headers("th-1") == limited.headers("th-9") == {}


@pytest.mark.parametrize(
    ("used", "reset"),
    [(0, "0s"), (1, "17ms"), (59, "984ms"), (61, "1.017s"), (3600, "1m0s"), (4000, "1m6.667s"), (216_000, "1h0m0s")],
)
def test_waits_have_the_form_of_openai(used: int, reset: str) -> None:
    limited = limiter(Clock(), tokens=3600)
    limited.count_tokens("th-1", used)
    assert limited.headers("th-1")["x-ratelimit-reset-tokens"] == reset
