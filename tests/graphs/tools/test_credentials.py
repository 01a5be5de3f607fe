"""An action's headers are limited, and its secrets are hidden from the model in bounded time."""

from typing import Any

import pytest

from graphs.tools.credentials import read_credentials
from tests.cpu_time import limit_cpu_time
from wire.errors import InvalidRequest


def test_secrets_are_hidden_in_every_encoding() -> None:
    credentials = read_credentials(
        {"headers": {"X-Key": 'se"cr/et'}, "auth": {"type": "bearer", "token": "t0ken value"}}, param="data"
    )
    result = credentials.hide('se"cr/et se%22cr%2Fet se\\"cr/et t0ken%20value t0ken+value dDBrZW4gdmFsdWU= plain')
    assert result == "[hidden] [hidden] [hidden] [hidden] [hidden] [hidden] plain"


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({f"X-{number}": "secret" for number in range(33)}, "33 headers; at most 32"),
        ({f"X-{number}": "s" * 8_000 for number in range(5)}, "characters; at most 32768"),
        ({"X-Key": "s" * 8_193}, "has 8193 characters; at most 8192 are allowed"),
    ],
    ids=["many", "much", "long"],
)
def test_too_many_or_too_long_headers_are_refused(headers: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        read_credentials({"headers": headers}, param="tools[0].data")


@pytest.mark.parametrize("text", ["a" * 65_536, "ab" * 32_768, "%61" * 20_000], ids=["one", "two", "escaped"])
def test_the_maximum_of_headers_is_hidden_quickly(text: str) -> None:
    data: dict[str, Any] = {"headers": {f"X-{number}": "a" * (900 + number) for number in range(32)}}
    credentials = read_credentials(data, param="data")
    limit_cpu_time(0.1, lambda: credentials.hide(text))
