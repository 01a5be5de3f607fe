"""What runs did so far, counted; `api/metrics.py` reads it.

Law: a token costs nothing here. Tokens are counted by what the upstream says a reply had.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from telemetry.metrics import Counts, Histogram
from wire.errors import RunError
from wire.status import Status

__all__ = ["RunMetrics"]

_TOLD: Final[tuple[Status, ...]] = ("completed", "incomplete", "failed", "cancelled", "expired", "requires_action")


class RunMetrics:
    """Metrics of all runs."""

    def __init__(self) -> None:
        self.runs = Counts({(status,): 0 for status in _TOLD})
        """By the status in which they ended or paused."""
        self.run_seconds = Histogram()
        """From taking a run up until it ended or paused."""
        self.first_token_seconds = Histogram()
        """From taking a run up until the model's first output: text, a refusal, a thought or a tool call. The server's
        own events do not count, and neither do runs without any output."""
        self.replies = Counts()
        """Model calls, by what became of them: ok, left, or a kind of failure."""
        self.reply_seconds = Histogram()
        self.tokens = Counts({("prompt",): 0, ("completion",): 0})
        """By prompt or completion."""
        self.tools = Counts()
        """Calls that the server made itself, by kind: action or file_search."""
        self.tool_seconds = Histogram()

    def spend(self, prompt: int, completion: int) -> None:
        """Count a reply's tokens."""
        self.tokens["prompt",] += prompt
        self.tokens["completion",] += completion

    @contextmanager
    def reply(self) -> Iterator[None]:
        """Count the model call made within."""
        begun_at, outcome = time.monotonic(), "left"
        try:
            yield
            outcome = "ok"
        except RunError as error:
            outcome = error.kind
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self.replies[outcome,] += 1
            self.reply_seconds.add(time.monotonic() - begun_at)

    @contextmanager
    def tool(self, kind: str) -> Iterator[None]:
        """Count the call made within."""
        begun_at = time.monotonic()
        try:
            yield
        finally:
            self.tools[kind,] += 1
            self.tool_seconds.add(time.monotonic() - begun_at)
