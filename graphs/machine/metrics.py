"""Counts what runs do; `api/metrics.py` exposes the counts.

Invariant: no work is done for a single token. Tokens are counted from the usage of each reply.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from telemetry.metrics import Counts, Histogram
from wire.errors import RunError
from wire.status import Status

__all__ = ["RunMetrics"]

_STATUSES: Final[tuple[Status, ...]] = ("completed", "incomplete", "failed", "cancelled", "expired", "requires_action")


class RunMetrics:
    """Metrics of all runs."""

    def __init__(self) -> None:
        self.runs = Counts({(status,): 0 for status in _STATUSES})
        """By the status in which they ended or paused."""
        self.run_seconds = Histogram()
        """From the time at which a process starts or continues a run until the run ends or pauses."""
        self.first_token_seconds = Histogram()
        """From the same time until the model's first output: text, a refusal, reasoning or a tool call. The server's
        own events and runs without any output do not count."""
        self.replies = Counts()
        """Model calls by outcome: ok, left (stopped by the server or the client), failed, or a kind of RunError."""
        self.reply_seconds = Histogram()
        self.tokens = Counts({("prompt",): 0, ("completion",): 0})
        """By prompt or completion."""
        self.on_tokens: Callable[[str, int], None] = lambda _key_id, _tokens: None
        """Called when a run ends or pauses, with the stored key that started it and the tokens since the last call."""
        self.tools = Counts()
        """Calls that the server made itself, by kind: action or file_search."""
        self.tool_seconds = Histogram()

    def count_tokens(self, prompt: int, completion: int) -> None:
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
