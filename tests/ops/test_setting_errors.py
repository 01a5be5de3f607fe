"""Invalid settings: one line each, with the setting, its value, what is allowed and what to do, and no secrets."""

from pathlib import Path

import pytest

from server import Settings
from tests.ops.command import command


def faults(folder: Path, *, toml: str = "", **settings: str) -> list[str]:
    """Return what `check` reports about invalid settings."""
    (folder / "threadhold.toml").write_text(toml)
    done = command(folder, "check", **settings)
    assert (done.returncode, done.stdout) == (2, "")
    return [line.removeprefix("threadhold: ") for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        (
            "MAX_RUNS",
            "0",
            "is `0`, but must be a whole number of at least 1. Correct it or remove it (default: `1024`).",
        ),
        ("MAX_RUNS", "many", "is `many`, but must be a whole number of at least 1."),
        ("MAX_RUNS", "1.5", "is `1.5`, but must be a whole number of at least 1."),
        ("MAX_RUNS", "", "is empty, but must be a whole number of at least 1."),
        ("MAX_REPLY_TOKENS", "0", "is `0`, but must be a whole number of at least 1. Correct it or remove it."),
        ("PORT", "70000", "is `70000`, but must be a whole number from 0 to 65535."),
        ("PORT", "9" * 5_000, "9…`, but must be a whole number from 0 to 65535."),
        ("DRAIN_S", "inf", "is `inf`, but must be a number of at least 0. Correct it or remove it (default: `10`)."),
        ("UPSTREAM_TIMEOUT_S", "0", "is `0`, but must be a number above 0."),
        (
            "LOG_CONTENT",
            "maybe",
            "is `maybe`, but must be `true` or `false`. Correct it or remove it (default: `false`).",
        ),
        ("LOG_LEVEL", "loud", "is `loud`, but must be `debug`, `info`, `warning` or `error`."),
        ("LOG_LEVEL", "lo\nud", "is `lo?ud`, but must be"),
        ("UPSTREAMS", "{", "must be JSON in the environment. Set it in threadhold.toml instead."),
        ("MODEL_ALIASES", "a=b,c", ": `c` is not an alias. Write name=target, and commas between several."),
    ],
    ids=lambda value: value[:20],
)
def test_an_invalid_value_is_shown_with_the_allowed_values(tmp_path: Path, name: str, value: str, result: str) -> None:
    (fault,) = faults(tmp_path, **{name: value})
    assert fault.startswith(name)
    assert result in fault
    assert len(fault) < 400


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("API_KEYS", "good,ann=", "entry 2 has no key."),
        ("API_KEYS", "=s3cret", "entry 1 has no owner."),
        ("API_KEYS", "a=s3cret,b=s3cret", "`b` and `a` have the same key."),
        ("API_KEYS", "good s3cret", "the key of entry 1 has spaces"),
        ("API_KEYS", "good,s3cretÿ", "the key of entry 2 has spaces or characters that HTTP headers cannot carry."),
        ("API_KEYS", " , ", "it has commas but no key"),
        ("METRICS_KEY", "s3cret\u2026", "characters that HTTP headers cannot carry"),
        ("MODEL_API_KEY", "s3cret\nx", "characters that HTTP headers cannot carry"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_an_invalid_key_is_described_without_being_shown(tmp_path: Path, name: str, value: str, result: str) -> None:
    (fault,) = faults(tmp_path, **{name: value})
    assert fault.startswith(f"{name}: ")
    assert result in fault
    assert "s3cret" not in fault


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("CORS_ORIGINS", "app.example.com", "https://app.example.com:8443/,null,http://localhost:5173,app://x"),
        ("CORS_ORIGINS", "https://app.example.com/path", "*"),
        ("CORS_ORIGINS", "https://*.example.com", "tauri://localhost"),
        ("ALLOWED_HOSTS", "https://example.com", "example.com,[::1],10.0.0.1"),
        ("ALLOWED_HOSTS", "example.com:3000", "my_host.internal"),
        ("ACTIONS_ALLOW_HOSTS", "10.0.0.0/33", "10.0.0.0/8,fd00::/8,[::1],crm.internal"),
        ("ACTIONS_ALLOW_HOSTS", "localhost:8080", "localhost"),
        ("ACTIONS_ALLOW_HOSTS", "http://crm", "10.1.2.3/8"),
    ],
)
def test_entries_that_can_never_match_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, wrong: str, right: str
) -> None:
    (fault,) = faults(tmp_path, **{name: f"{right},{wrong}"})
    assert fault.startswith(f"{name}: `{wrong}` is not a")
    monkeypatch.chdir(tmp_path)
    assert getattr(Settings(**{name.lower(): right}), name.lower()) == tuple(right.split(","))


TOML = """
model_url = 5
model_api_key = 7
cors_origins = 5
allowed_hosts = ["a.example", "b.example:80"]
max_runs = "many"
tool_calls = ["x"]
[api_keys]
ann = "s3cret"
[upstreams.gpu]
ulr = "http://x"
api_key = "s3cret key"
tool_calls = "foo"
[upstreams."bad name"]
url = "http://x"
[upstreams.ok]
models = "x"
url = ["http://u:s3cret@x"]
[upstreams.none]
api_key = "s3cret"
[prompts]
decide = 5
"""


def test_every_error_of_a_file_is_one_line(tmp_path: Path) -> None:
    result = faults(tmp_path, toml=TOML)
    assert "s3cret" not in "".join(result)
    assert {line.partition(",")[0].partition(". ")[0] for line in result} == {
        "MODEL_URL must be a text",
        "MODEL_API_KEY must be a text",
        "CORS_ORIGINS is `5`",
        "ALLOWED_HOSTS: `b.example:80` is not a host",
        "MAX_RUNS is `many`",
        "TOOL_CALLS is `a list`",
        "API_KEYS: it must be one text or a list of texts",
        "[upstreams.gpu]: `ulr` is not a setting",
        "`api_key` of [upstreams.gpu]: it has spaces or characters that HTTP headers cannot carry",
        "`tool_calls` of [upstreams.gpu] is `foo`",
        "[upstreams.bad name]: names have letters",
        "`models` of [upstreams.ok] is `x`",
        "`url` of [upstreams.ok] must be a text",
        "[upstreams.none]: `url` is missing",
        "`decide` of [prompts] is `5`",
    }
