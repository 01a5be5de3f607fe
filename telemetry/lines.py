"""Formats log records as lines: text for people, JSON for machines. Pure.

Invariants: a record is one line, whatever it quotes, because control characters are escaped. Only a traceback adds
lines, which are indented. Secrets from the settings are masked. The message of an unexpected error can quote what a
user wrote, so it is logged only with `content`; the error's type and position always are.
"""

import json
import logging
import time
import traceback
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

import orjson

from telemetry.context import bound
from telemetry.masking import mask_secrets
from telemetry.plain import plain

__all__ = ["JsonLines", "TextLines", "fields"]

_encode: Final = json.JSONEncoder(default=str, separators=(",", ":")).encode
_MAX_LINE: Final = 16_384
_SQLITE_MODULE: Final = "sqlite3"
"""Its errors name columns and files, but no values. It is not imported here, as that takes 4 ms before the port opens.
"""

Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def fields(**values: object) -> dict[str, object]:
    """Return the `extra` of a record that adds these fields to its JSON line."""
    return {"fields": values}


class _Lines(logging.Formatter):
    def __init__(self, *, secrets: Collection[str] = (), content: bool = False) -> None:
        super().__init__()
        self._mask = mask_secrets(secrets)
        self._content = content

    def _clean(self, text: str) -> str:
        text = self._mask(text)
        return text if len(text) <= _MAX_LINE else f"{text[:_MAX_LINE]}… ({len(text)} characters)"

    def _trace(self, raised: Raised) -> list[str]:
        """Return the lines of a traceback, causes first, each escaped."""
        error = raised[1]
        chain: list[BaseException] = []
        while error is not None and len(chain) < 8:
            chain.append(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        lines: list[str] = []
        for one in reversed(chain):
            frames = traceback.extract_tb(one.__traceback__)[-40:]
            lines += [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
            lines.append(f"{type(one).__module__}.{type(one).__qualname__}{self._message(one)}")
            for below in one.exceptions if isinstance(one, BaseExceptionGroup) else ():
                lines += [f"  {line}" for line in self._trace((type(below), below, below.__traceback__))]
        return [self._clean(plain(line)) for line in lines]

    def _message(self, error: BaseException) -> str:
        plain = getattr(error, "plain", None)
        is_safe = isinstance(error, OSError) or type(error).__module__ == _SQLITE_MODULE
        if self._content or is_safe:
            return f": {error}"
        return f": {plain}" if isinstance(plain, str) else " (LOG_CONTENT shows its message)"


class TextLines(_Lines):
    """`2026-11-21 10:31:05.123 INFO threadhold.runs: run completed … request_id=req_…`, in local time."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its line end."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        message = plain(record.getMessage())
        ids = "".join(f" {name}={value}" for name, value in bound().items() if value not in message)
        line = self._clean(f"{at}.{record.msecs:03.0f} {record.levelname} {record.name}: {message}{plain(ids)}")
        if record.exc_info:
            line += "".join(f"\n  | {each}" for each in self._trace(record.exc_info))
        return line


class JsonLines(_Lines):
    """One object per line: `time` (UTC), `level`, `logger`, `message`, the ids, and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its line end. Everything but ASCII is escaped, which also keeps terminals safe."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry: dict[str, object] = {
            "time": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._clean(record.getMessage()),
            **bound(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["trace"] = self._trace(record.exc_info)
        line = _json(entry).replace("\x7f", "\\u007f")
        return self._mask(line)


def _json(entry: dict[str, object]) -> str:
    """Return the entry as JSON in ASCII. Nearly all entries are ASCII, for which orjson takes a fifth of the time."""
    with suppress(orjson.JSONEncodeError):
        line = orjson.dumps(entry, default=str)
        if line.isascii():
            return line.decode()
    return _encode(entry)
