"""Logs and messages contain no secrets of the settings, and no credentials of URLs."""

import json

import pytest

from telemetry.masking import mask_secrets, public_url, url_secrets


@pytest.mark.parametrize(
    ("url", "shown", "secrets"),
    [
        ("http://h:80/v1", "http://h:80/v1", []),
        ("h:80/v1", "h:80/v1", []),
        ("https://[::1]:80/v1", "https://[::1]:80/v1", []),
        ("http://u:pw@h:80/v1#x", "http://h:80/v1", ["pw"]),
        ("u:pw@h:80/v1", "h:80/v1", ["pw"]),
        ("http://token@h", "http://h", ["token"]),
        ("http://u:p%40w@h", "http://h", ["p%40w", "p@w"]),
        ("http://u:p@w@h/x", "http://h/x", ["p@w"]),
        ("http://h/v1?api-version=1&api-key=k1&sig=s1", "http://h/v1", ["k1", "s1"]),
        ("postgres://u:p@h/d?sslmode=off&password=q", "postgres://h/d", ["p", "q"]),
        ("http://h:port", "http://h:port", []),
        ("", "", []),
    ],
)
def test_a_url_is_shown_without_its_credentials(url: str, shown: str, secrets: list[str]) -> None:
    assert public_url(url) == shown
    assert url_secrets(url) == secrets


@pytest.mark.parametrize("between", ["/", "?", "#", "/?#", "@/", ":/", " /", "\n"])
@pytest.mark.parametrize("scheme", ["http://", "postgresql+psycopg://", "//", ""])
def test_a_password_with_unescaped_delimiters_is_not_shown(scheme: str, between: str) -> None:
    shown = public_url(f"{scheme}user:begin{between}end@host:5432/name")
    assert "begin" not in shown
    assert "end" not in shown


def test_secrets_are_masked_wherever_they_occur() -> None:
    mask = mask_secrets(["hush-hush", 'with "quotes"', "hush-hush-hush", "m"])
    assert mask("hush-hush-hush and hush-hush, m") == "[secret] and [secret], m"
    assert mask(json.dumps('with "quotes"')) == '"[secret]"'
    assert mask_secrets([])("all") == "all"
