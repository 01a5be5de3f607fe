"""Where log lines go: to a stream, by a thread of their own.

Law: whoever logs never waits for whoever reads. A line is made at once and queued; where more of them wait than
`_MOST`, because nobody reads the stream, the newest are dropped, counted, and the count is told when there is room.
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

_MOST: Final = 10_000
_FLUSH_S: Final = 2.0
_GATHER_S: Final = 0.05
"""How long lines gather before they are written: to wake the thread for each cost who logs 24 µs, ten times the rest of
queueing it."""

_UNASKED: Final = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing")
"""What `logging` finds out for each record (its documentation names these to spare it), and no line of ours tells."""

_CONTENT: Final = "threadhold.content"
_TALKATIVE: Final = ("asyncio", "httpcore2", "httpx2", "langsmith", "urllib3", "uvicorn.error")
"""Libraries whose lines below a warning repeat what ours say. `uvicorn.error` is uvicorn's logger for all its lines."""


@contextmanager
def open_log(
    stream: TextIO,
    *,
    level: Level = "info",
    style: Format = "auto",
    content: bool = False,
    secrets: Collection[str] = (),
) -> Iterator[None]:
    """Let everything that is logged within go to the stream, Python's warnings too.

    `style` "auto" is text where the stream is a terminal, else JSON. `content` lets what people and models say in.
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
    # A logger of its own, so that no level lets it in by the way.
    logging.getLogger(_CONTENT).setLevel(logging.DEBUG if content else logging.CRITICAL + 1)
    logging.captureWarnings(True)
    asked = {name: getattr(logging, name) for name in _UNASKED}
    for name in _UNASKED:
        setattr(logging, name, None)
    try:
        yield
    finally:
        for name, value in asked.items():
            setattr(logging, name, value)
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()


class _Writing(logging.Handler):
    """Makes lines where they are logged, and writes them in a thread.

    The standard QueueHandler and QueueListener do not serve here: they flush the stream after each record, a full queue
    is an error, and `QueueListener.stop` waits without a limit for a stream that nobody reads.
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
        if self._queue.qsize() >= _MOST:
            self._dropped += 1
            return
        try:
            if self._dropped:
                self._queue.put(self._loss(record))
            self._queue.put(self.format(record))
        except Exception:  # a record that cannot be told must not break what was going on
            self.handleError(record)

    def _loss(self, record: logging.LogRecord) -> str:
        lost, self._dropped = self._dropped, 0
        told = "%d log lines were dropped, as nobody read them in time"
        return self.format(
            logging.LogRecord("threadhold.log", logging.WARNING, record.pathname, 0, told, (lost,), None)
        )

    def close(self) -> None:
        """Write what is queued, in limited time, and end the thread."""
        self._queue.put(None)
        self._thread.join(_FLUSH_S)
        super().close()

    def _write(self) -> None:
        """Write all that waits at once, until told to end. A stream that is gone takes its lines with it."""
        while (line := self._queue.get()) is not None:
            lines = [line]
            with suppress(Empty):
                while len(lines) < _MOST and (line := self._queue.get_nowait()) is not None:
                    lines.append(line)
            with suppress(OSError, ValueError):
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            if line is None:
                return
            time.sleep(_GATHER_S)
