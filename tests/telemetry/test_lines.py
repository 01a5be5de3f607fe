"""A log record is one line, whatever it quotes, and contains no secrets."""

import json
import logging
from typing import Any

import pytest

from telemetry.context import bind
from telemetry.lines import JsonLines, TextLines, fields
from wire.errors import UpstreamFailed

NASTY = "a\nERROR forged: line\r\x1b[31mred\x85next\u2028line\u202eback\x00\ud800"


def record(message: str, *given: Any, error: BaseException | None = None, **extra: Any) -> logging.LogRecord:
    raised = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("threadhold.x", logging.INFO, __file__, 1, message, given, raised)
    vars(made).update(fields(**extra))
    return made


def caught(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as seen:
        return seen


@pytest.mark.parametrize("lines", [TextLines(), JsonLines()], ids=["text", "json"])
def test_quoted_text_cannot_start_a_line_or_move_the_cursor(lines: logging.Formatter) -> None:
    with bind(request_id=NASTY):
        line = lines.format(record("path %s", NASTY, path=NASTY))
    assert line.isprintable()
    assert "forged" in line


@pytest.mark.parametrize("lines", [TextLines(content=True), JsonLines(content=True)], ids=["text", "json"])
def test_an_error_s_text_cannot_start_a_line(lines: logging.Formatter) -> None:
    written = lines.format(record("broke", error=caught(ValueError(NASTY)))).split("\n")
    assert [line for line in written[1:] if not line.startswith("  | ")] == []
    assert all(line.isprintable() for line in written)


@pytest.mark.parametrize("kind", [TextLines, JsonLines], ids=["text", "json"])
def test_a_secret_is_masked_wherever_it_occurs(kind: type[TextLines | JsonLines]) -> None:
    secret = "sk-very\\secret"
    lines = kind(secrets=[secret, "", "m"])
    line = lines.format(record("key %s", secret, error=caught(OSError(f"with {secret}")), header=f"Bearer {secret}"))
    assert "secret]" in line
    assert "very" not in line
    assert "key" in line


@pytest.mark.parametrize("kind", [TextLines, JsonLines], ids=["text", "json"])
def test_unexpected_error_messages_are_logged_on_request_only(kind: type[TextLines | JsonLines]) -> None:
    error = caught(ValueError("what the user wrote"), KeyError("and the model"))
    line = kind().format(record("broke", error=error))
    assert "ValueError" in line
    assert "KeyError" in line
    assert "caught" in line  # where it happened
    assert "wrote" not in line
    assert "model" not in line
    assert "wrote" in kind(content=True).format(record("broke", error=error))


def test_quotes_of_an_upstream_are_left_out_of_our_errors() -> None:
    error = caught(UpstreamFailed("host failed (500): my prompt. See its log.", quote="my prompt"))
    assert "host failed (500): …. See its log." in TextLines().format(record("broke", error=error))


def test_each_line_has_its_ids_once() -> None:
    with bind(request_id="req_1"), bind(run_id="run_1"):
        assert TextLines().format(record("run %s", "run_1")).endswith("run run_1 request_id=req_1")
        line = json.loads(JsonLines().format(record("x", took_ms=3)))
    assert (line["request_id"], line["run_id"], line["took_ms"], line["level"]) == ("req_1", "run_1", 3, "info")
    assert line["time"].endswith("Z")
    assert "request_id" not in JsonLines().format(record("x"))


def test_a_long_line_is_truncated() -> None:
    assert len(TextLines().format(record("x" * 100_000))) < 17_000
