"""MODEL_URL in every spelling, and the proxy that it uses."""

import pytest

from chains.endpoint import parse_endpoint, proxy_for
from wire.errors import ThreadholdError


@pytest.mark.parametrize(
    ("url", "completions"),
    [
        ("http://h:8080", "http://h:8080/v1/chat/completions"),
        ("http://h:8080/", "http://h:8080/v1/chat/completions"),
        ("http://h:8080/v1", "http://h:8080/v1/chat/completions"),
        ("http://h:8080/v1/", "http://h:8080/v1/chat/completions"),
        (" http://h/v1/chat/completions ", "http://h/v1/chat/completions"),
        ("http://h/v1/chat/completions/", "http://h/v1/chat/completions"),
        ("http://h/chat/completions", "http://h/chat/completions"),
        ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1/chat/completions"),
        ("https://h/d/x/chat/completions?api-version=1", "https://h/d/x/chat/completions?api-version=1"),
        ("h:8080", "http://h:8080/v1/chat/completions"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1/chat/completions"),
    ],
)
def test_the_url_is_accepted_in_every_spelling(url: str, completions: str) -> None:
    endpoint = parse_endpoint(url, None)
    assert endpoint.completions == completions
    assert endpoint.models == completions.replace("/chat/completions", "/models")


@pytest.mark.parametrize("url", ["ftp://h/v1", "http://", "http://h:port/v1", "http://u:secret@h:x/v1"])
def test_an_invalid_url_is_refused_in_a_sentence_without_secrets(url: str) -> None:
    with pytest.raises(ThreadholdError, match="`MODEL_URL` must be an http or https URL") as caught:
        parse_endpoint(url, None)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "is_openai"),
    [
        ("https://api.openai.com/v1", True),
        ("https://x.openai.azure.com/openai/v1", True),
        ("http://openai.com.evil.example/v1", False),
        ("http://notopenai.com/v1", False),
        ("http://127.0.0.1/openai.com/v1", False),
    ],
)
def test_the_dialect_depends_on_the_host(url: str, is_openai: bool) -> None:
    assert parse_endpoint(url, None).is_openai is is_openai


def test_credentials_in_the_url_are_sent_but_not_shown() -> None:
    endpoint = parse_endpoint("http://user:p%40ss@h:1/v1", None)
    assert endpoint.headers() == {"Authorization": "Basic dXNlcjpwQHNz"}
    assert endpoint.host == "h:1"
    assert "dXNlcjpwQHNz" not in repr(endpoint)
    assert "sk-1234" not in repr(parse_endpoint("http://h", "sk-1234"))


def test_proxies_come_from_the_usual_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for("http://h/v1") is None
    monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
    assert proxy_for("https://h/v1") == "http://p:1"
    assert proxy_for("http://h/v1") is None
    monkeypatch.setenv("ALL_PROXY", "q:2")
    assert proxy_for("http://h/v1") == "http://q:2"
    monkeypatch.setenv("NO_PROXY", "h, .inner.example, other:81")
    assert proxy_for("http://h/v1") is None
    assert proxy_for("http://a.inner.example/v1") is None
    assert proxy_for("http://other:81/v1") is None
    assert proxy_for("http://other:82/v1") == "http://q:2"
    for loopback in ("http://127.0.0.1:1/v1", "http://localhost/v1", "http://[::1]/v1"):
        assert proxy_for(loopback) is None
