"""URLs from outside: which are never called, and that the cost of each is linear in its length."""

import time
from collections.abc import Callable

import pytest

from graphs.tools.urls import MAX_URL_CHARS, check_url, join_url, split_url

MARKS = "\u0315" * 100_000 + "\u0300" * 100_000
"""Combining marks out of order: normalizing them takes minutes."""

LONG = {
    "a host": f"http://a{MARKS}/",
    "a host without a scheme": f"//a{MARKS}/",
    "a host behind a removed character": f"\t\nht\ttp:/\n/a{MARKS}",
    "a host with credentials": f"http://{MARKS}@a/",
    "a host with a port": f"http://a:{MARKS}/",
    "a path": f"http://a/{MARKS}",
    "a path without a host": f"http:a/{MARKS}",
    "a query": f"http://a?{MARKS}",
    "letters": "http://" + "a" * 2_000_000,
}


@pytest.mark.parametrize(
    "use", [check_url, split_url, lambda url: join_url("http://a/", url), lambda url: join_url(url, "b")]
)
@pytest.mark.parametrize("url", LONG.values(), ids=LONG)
def test_a_long_url_is_refused_quickly(url: str, use: Callable[[str], object]) -> None:
    before = time.process_time()
    try:
        problem = use(url)
    except ValueError as error:
        problem = str(error)
    assert time.process_time() - before < 0.5
    assert "characters, more than" in str(problem)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "https://b\u00fccher.example/" + "x" * 10_000,
        "http://example.com/?q=" + "\uac00" * 5_000,
        "http://[::1]:8080/a",
        "http://" + ".".join(["a" * 60] * 4) + "/",
    ],
    ids=["short", "unicode host and long path", "unicode query", "IPv6", "long name"],
)
def test_an_ordinary_url_is_called(url: str) -> None:
    assert check_url(url) is None
    assert join_url(url, "") == url


def test_the_refusal_names_the_limit() -> None:
    assert check_url("http://a/" + "x" * MAX_URL_CHARS) == (
        f"is not a URL: it has {MAX_URL_CHARS + 9} characters, more than {MAX_URL_CHARS}"
    )
    assert check_url("http://" + "x" * 600) == "is not a URL: its host has 600 characters, more than 512"
