"""How a log record becomes a line: text for people, JSON for machines. Pure.

Laws: one record is one line (a traceback's further lines are indented), whatever it quotes: control characters are
escaped; the settings' secrets are blotted out; the words of an unforeseen error, which may quote what somebody wrote,
are told only where `content` is asked for, its type and place always.
"""

import json
import logging
import re
import time
import traceback
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

import orjson

from telemetry.context import bound
from telemetry.plain import plain

__all__ = ["JsonLines", "TextLines", "fields"]

_BLOT: Final = "[secret]"
_SHORTEST_SECRET: Final = 6
"""Characters; a shorter key would blot out words that have nothing to do with it."""

_encode: Final = json.JSONEncoder(default=str, separators=(",", ":")).encode
_MAX_LINE: Final = 16_384
_SPEAKS_OF_COLUMNS: Final = "sqlite3"
"""The module whose errors name columns and files, no values. By name: the log is opened before the port, and it takes
4 ms to import."""

Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def fields(**told: Any) -> dict[str, Any]:
    """Return the `extra` of a record that tells machines these, beside the message for people."""
    return {"fields": told}


class _Lines(logging.Formatter):
    def __init__(self, *, secrets: Collection[str] = (), content: bool = False) -> None:
        super().__init__()
        spelled = {form for one in secrets if len(one) >= _SHORTEST_SECRET for form in (one, json.dumps(one)[1:-1])}
        worth = sorted(spelled, key=len, reverse=True)
        self._secret = re.compile("|".join(map(re.escape, worth))) if worth else None
        self._content = content

    def _clean(self, text: str) -> str:
        if self._secret is not None:
            text = self._secret.sub(_BLOT, text)
        return text if len(text) <= _MAX_LINE else f"{text[:_MAX_LINE]}… ({len(text)} characters)"

    def _trace(self, raised: Raised) -> list[str]:
        """The lines of a traceback, causes first, each escaped."""
        error = raised[1]
        chain: list[BaseException] = []
        while error is not None and len(chain) < 8:
            chain.append(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        told: list[str] = []
        for one in reversed(chain):
            frames = traceback.extract_tb(one.__traceback__)[-40:]
            told += [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
            told.append(f"{type(one).__module__}.{type(one).__qualname__}{self._words(one)}")
            for below in one.exceptions if isinstance(one, BaseExceptionGroup) else ():
                told += [f"  {line}" for line in self._trace((type(below), below, below.__traceback__))]
        return [self._clean(plain(line)) for line in told]

    def _words(self, error: BaseException) -> str:
        plain = getattr(error, "plain", None)
        is_safe = isinstance(error, OSError) or type(error).__module__ == _SPEAKS_OF_COLUMNS
        if self._content or is_safe:
            return f": {error}"
        return f": {plain}" if isinstance(plain, str) else " (its words are shown with LOG_CONTENT)"


class TextLines(_Lines):
    """`2026-11-21 10:31:05.123 INFO threadhold.runs: run completed … request_id=req_…`, in local time."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        said = plain(record.getMessage())
        ids = "".join(f" {name}={value}" for name, value in bound().items() if value not in said)
        line = self._clean(f"{at}.{record.msecs:03.0f} {record.levelname} {record.name}: {said}{plain(ids)}")
        if record.exc_info:
            line += "".join(f"\n  | {each}" for each in self._trace(record.exc_info))
        return line


class JsonLines(_Lines):
    """An object a line: `time` (UTC), `level`, `logger`, `message`, the ids, and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end. All that is not ASCII is escaped, so that it harms no terminal either."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told: dict[str, Any] = {
            "time": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._clean(record.getMessage()),
            **bound(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            told["trace"] = self._trace(record.exc_info)
        line = _json(told).replace("\x7f", "\\u007f")
        return line if self._secret is None else self._secret.sub(_BLOT, line)


def _json(told: dict[str, Any]) -> str:
    """Return it as JSON in ASCII; nearly always it is nothing else, and then orjson takes a fifth of the time."""
    with suppress(orjson.JSONEncodeError):
        line = orjson.dumps(told, default=str)
        if line.isascii():
            return line.decode()
    return _encode(told)
