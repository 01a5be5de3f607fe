"""A record is one line, whatever it quotes, and says nothing that is nobody's business."""

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
def test_what_is_quoted_cannot_begin_a_line_nor_move_a_cursor(lines: logging.Formatter) -> None:
    with bind(request_id=NASTY):
        line = lines.format(record("path %s", NASTY, path=NASTY))
    assert line.isprintable()
    assert "forged" in line


@pytest.mark.parametrize("lines", [TextLines(content=True), JsonLines(content=True)], ids=["text", "json"])
def test_an_error_s_words_cannot_begin_a_line(lines: logging.Formatter) -> None:
    said = lines.format(record("broke", error=caught(ValueError(NASTY)))).split("\n")
    assert [line for line in said[1:] if not line.startswith("  | ")] == []
    assert all(line.isprintable() for line in said)


@pytest.mark.parametrize("kind", [TextLines, JsonLines], ids=["text", "json"])
def test_a_secret_is_blotted_out_wherever_it_turns_up(kind: type[TextLines | JsonLines]) -> None:
    secret = "sk-very\\secret"
    lines = kind(secrets=[secret, "", "m"])
    line = lines.format(record("key %s", secret, error=caught(OSError(f"with {secret}")), header=f"Bearer {secret}"))
    assert "secret]" in line
    assert "very" not in line
    assert "key" in line


@pytest.mark.parametrize("kind", [TextLines, JsonLines], ids=["text", "json"])
def test_unexpected_error_messages_are_logged_on_request_only(kind: type[TextLines | JsonLines]) -> None:
    error = caught(ValueError("what the user wrote"), KeyError("and the model"))
    told = kind().format(record("broke", error=error))
    assert "ValueError" in told
    assert "KeyError" in told
    assert "caught" in told  # where it happened
    assert "wrote" not in told
    assert "model" not in told
    assert "wrote" in kind(content=True).format(record("broke", error=error))


def test_what_an_upstream_quotes_is_left_out_of_our_own_errors() -> None:
    error = caught(UpstreamFailed("host failed (500): my prompt. See its log.", quote="my prompt"))
    assert "host failed (500): …. See its log." in TextLines().format(record("broke", error=error))


def test_ids_are_on_every_line_and_once() -> None:
    with bind(request_id="req_1"), bind(run_id="run_1"):
        assert TextLines().format(record("run %s", "run_1")).endswith("run run_1 request_id=req_1")
        told = json.loads(JsonLines().format(record("x", took_ms=3)))
    assert (told["request_id"], told["run_id"], told["took_ms"], told["level"]) == ("req_1", "run_1", 3, "info")
    assert told["time"].endswith("Z")
    assert "request_id" not in JsonLines().format(record("x"))


def test_a_long_line_is_cut() -> None:
    assert len(TextLines().format(record("x" * 100_000))) < 17_000
