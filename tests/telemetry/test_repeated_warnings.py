"""Warnings about events that clients can cause thousands of times a second."""

import logging

import pytest

from telemetry.repeated_warnings import RepeatedWarning


def test_one_line_a_minute_counts_all_events(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    warning = RepeatedWarning(logging.getLogger("threadhold.test"), "%s: %d", clock=lambda: now)
    for _ in range(500):
        warning.add("refused")
    now += 61
    warning.add("refused")
    assert [record.getMessage() for record in caplog.records] == ["refused: 1", "refused: 500"]
