"""Logging never waits for the reader of the log."""

import io
import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from typing import TextIO

import pytest

from telemetry import log as log_module
from telemetry.log import open_log

logger = logging.getLogger("threadhold.x")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe without a reader: (reading end, writing stream)."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    yield reading, stream
    os.close(reading)
    stream.close()


def test_a_terminal_gets_text_and_other_streams_json() -> None:
    for stream, style, is_json in (
        (Terminal(), "auto", False),
        (io.StringIO(), "auto", True),
        (Terminal(), "json", True),
        (io.StringIO(), "text", False),
    ):
        with open_log(stream, style=style):  # type: ignore[arg-type]
            logger.info("hello")
        assert stream.getvalue().startswith("{") is is_json
        assert stream.getvalue().count("\n") == 1


def test_a_stalled_reader_delays_nothing_and_gets_the_loss_count(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_MAX_QUEUED", 100)
    reading, stream = pipe
    received: list[bytes] = []

    def read() -> None:
        while block := os.read(reading, 65536):
            received.append(block)
            if b"the end" in block:
                return

    with open_log(stream):
        started = time.monotonic()
        for number in range(5_000):  # many times the capacity of a pipe and the queue
            logger.info("line %d %s", number, "x" * 100)
        assert time.monotonic() - started < 5
        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.2)
        logger.info("the end")
        reader.join(10)
    lines = [json.loads(line) for line in b"".join(received).split(b"\n") if line]
    assert any("were dropped" in line["message"] for line in lines)
    assert lines[-1]["message"] == "the end"


def test_the_last_lines_are_written_and_a_closed_stream_is_ignored() -> None:
    stream = io.StringIO()
    with open_log(stream, style="text"):
        for number in range(1_000):
            logger.info("line %d", number)
    assert stream.getvalue().count("\n") == 1_000
    with open_log(stream):
        stream.close()
        logger.info("into nothing")


def test_level_and_content_are_set_separately() -> None:
    content = logging.getLogger("threadhold.content")
    for level, switch, said in (("debug", False, []), ("error", True, ["secret talk"])):
        stream = io.StringIO()
        with open_log(stream, level=level, content=switch):  # type: ignore[arg-type]
            content.debug("secret talk")
        assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == said


def test_a_python_warning_is_logged_as_a_line() -> None:
    stream = io.StringIO()
    with warnings.catch_warnings(), open_log(stream):
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert json.loads(stream.getvalue())["logger"] == "py.warnings"
