"""Writes log lines to a stream, in a separate thread.

Invariant: logging never waits for the reader of the stream. Each line is formatted immediately and queued. If the
stream is not read and `_MAX_QUEUED` lines are queued, new lines are dropped and counted; the count is logged as soon as
the queue has space.
"""

import logging
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Final, Literal, TextIO

from telemetry.lines import JsonLines, TextLines

__all__ = ["Format", "Level", "open_log"]

Format = Literal["auto", "text", "json"]
Level = Literal["debug", "info", "warning", "error"]

_MAX_QUEUED: Final = 10_000
_FLUSH_S: Final = 2.0
_GATHER_S: Final = 0.05
"""How long lines are collected before they are written. Waking the thread for each line would cost the caller 24 µs,
ten times the rest of queueing it."""

_UNASKED: Final = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing")
"""What `logging` collects for each record although no line shows it. Its documentation names these switches."""

_CONTENT: Final = "threadhold.content"
_TALKATIVE: Final = ("asyncio", "httpcore2", "httpx2", "langsmith", "urllib3", "uvicorn.error")
"""Libraries whose lines below a warning repeat our own. `uvicorn.error` is uvicorn's logger for all its lines."""


@contextmanager
def open_log(
    stream: TextIO,
    *,
    level: Level = "info",
    style: Format = "auto",
    content: bool = False,
    secrets: Collection[str] = (),
) -> Iterator[None]:
    """Write everything that is logged within the block to the stream, including Python's warnings.

    `style` "auto" is text if the stream is a terminal, else JSON. `content` includes what users and models write.
    """
    is_json = style == "json" or (style == "auto" and not stream.isatty())
    handler = _Writing(stream)
    handler.setFormatter((JsonLines if is_json else TextLines)(secrets=secrets, content=content))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Content has a separate logger, so that no log level includes it by accident.
    logging.getLogger(_CONTENT).setLevel(logging.DEBUG if content else logging.CRITICAL + 1)
    logging.captureWarnings(True)
    previous = {name: getattr(logging, name) for name in _UNASKED}
    for name in _UNASKED:
        setattr(logging, name, None)
    try:
        yield
    finally:
        for name, value in previous.items():
            setattr(logging, name, value)
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()


class _Writing(logging.Handler):
    """Formats lines in the caller's thread, and writes them in another.

    The standard QueueHandler and QueueListener are not suitable: they flush the stream after each record, treat a full
    queue as an error, and `QueueListener.stop` waits without a limit for a stream that is not read.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="threadhold-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's line; never waits."""
        if self._queue.qsize() >= _MAX_QUEUED:
            self._dropped += 1
            return
        try:
            if self._dropped:
                self._queue.put(self._loss(record))
            self._queue.put(self.format(record))
        except Exception:  # a record that cannot be formatted must not break its caller
            self.handleError(record)

    def _loss(self, record: logging.LogRecord) -> str:
        lost, self._dropped = self._dropped, 0
        message = "%d log lines were dropped because the log stream was not read in time"
        return self.format(
            logging.LogRecord("threadhold.log", logging.WARNING, record.pathname, 0, message, (lost,), None)
        )

    def close(self) -> None:
        """Write the queued lines, for at most `_FLUSH_S`, and end the thread."""
        self._queue.put(None)
        self._thread.join(_FLUSH_S)
        super().close()

    def _write(self) -> None:
        """Write all queued lines together, until None ends the queue. Lines for a closed stream are lost."""
        while (line := self._queue.get()) is not None:
            lines = [line]
            with suppress(Empty):
                while len(lines) < _MAX_QUEUED and (line := self._queue.get_nowait()) is not None:
                    lines.append(line)
            with suppress(OSError, ValueError):
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            if line is None:
                return
            time.sleep(_GATHER_S)
