"""Reads a dump file: JSON lines, or one JSON document that lists its entries.

Invariants: entries can be read repeatedly and are never kept, so JSON lines can be larger than the memory. The number
of an entry is its line number, or its position in the document.
"""

import codecs
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import orjson

from wire.errors import InvalidRequest, ThreadholdError

__all__ = ["Dump", "Entry", "open_dump"]

_MAX_DOCUMENT: Final = 1024 * 1024 * 1024  # bytes: it is held in memory
_BOM: Final = codecs.BOM_UTF8
"""Some programs put it at the beginning of a file. If such files were concatenated, it is also in the middle."""


_LEVELS_ADDED: Final = 8
"""Levels that a row can add around the content of an entry."""
_TOO_DEEP: Final = "This is nested more than 240 levels deep."


@dataclass(frozen=True, slots=True)
class Entry:
    """The position of an entry: its number, counted from 1, and its start and length in the file, in bytes."""

    number: int
    start: int
    length: int


class Dump:
    """An open dump. `unit` is the word for an entry; `has_more` is set if the dump is one incomplete listing."""

    def __init__(self, file: IO[bytes], unit: str, size: int, *, has_more: bool = False) -> None:
        self._file = file
        self.unit = unit
        self.size = size
        self.has_more = has_more

    def entries(self) -> Iterator[tuple[Entry, bytes]]:
        """Yield every entry that is not blank, with its bytes."""
        self._file.seek(0)
        start = 0
        for number, line in enumerate(self._file, 1):
            if line.removeprefix(_BOM).strip():
                yield Entry(number, start, len(line)), line
            start += len(line)

    def read(self, entry: Entry) -> object:
        """Return the decoded entry. Raises InvalidRequest."""
        self._file.seek(entry.start)
        return decode(self._file.read(entry.length))


def decode(line: bytes) -> object:
    """Return the decoded JSON of a line. Raises InvalidRequest."""
    try:
        found = orjson.loads(line.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"This is not JSON: {error}.") from error
    if _is_too_deep(found):
        raise InvalidRequest(_TOO_DEEP)
    return found


def _is_too_deep(found: object) -> bool:
    """Return whether the data is nested too deeply to be stored. orjson reads four times as many levels as it writes.

    An entry can gain `_LEVELS_ADDED` levels before it is written.
    """
    for _ in range(_LEVELS_ADDED):
        found = [found]
    try:
        orjson.dumps(found)
    except TypeError:
        return True
    return False


@contextmanager
def open_dump(source: str) -> Iterator[Dump]:
    """Open a file, or standard input for `-`. Raises ThreadholdError if it is not a dump, OSError."""
    with tempfile.TemporaryFile() as spool, _opened(source, spool) as file:
        _check_encoding(file, source)
        if _is_lines(file):
            size = file.seek(0, 2)
            yield Dump(file, "line", size)
        else:
            with tempfile.TemporaryFile() as lines:
                found, has_more = _document(file, source)
                for number, one in enumerate(found, 1):
                    if _is_too_deep(one):
                        raise ThreadholdError(f"`{source}`, entry {number}: {_TOO_DEEP}")
                    lines.write(orjson.dumps(one) + b"\n")
                yield Dump(lines, "entry", lines.tell(), has_more=has_more)


@contextmanager
def _opened(source: str, spool: IO[bytes]) -> Iterator[IO[bytes]]:
    if source == "-":
        shutil.copyfileobj(sys.stdin.buffer, spool)  # it is read twice
        spool.seek(0)
        yield spool
    else:
        with Path(source).open("rb") as file:
            yield file


def _check_encoding(file: IO[bytes], source: str) -> None:
    """Raise ThreadholdError for UTF-16, which a byte order mark or a zero byte in the first four bytes shows."""
    first = file.read(4)
    file.seek(0)
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in first:
        encoding = "UTF-16LE" if first.startswith(codecs.BOM_UTF16_LE) or first[1:2] == b"\0" else "UTF-16BE"
        name = "standard input" if source == "-" else f"`{source}`"
        raise ThreadholdError(
            f"{name} is UTF-16 text, as PowerShell's `>` writes it, and a dump is UTF-8. Convert it: "
            f"`iconv -f {encoding} -t UTF-8 FILE > NEW`, or in PowerShell "
            "`Get-Content FILE | Set-Content -Encoding utf8 NEW`."
        )


def _is_lines(file: IO[bytes]) -> bool:
    """Return whether the first line that is not blank is an object by itself.

    In a document it usually is not. A document of one line is one object, which counts as a line, or an array.
    """
    lines = (line.removeprefix(_BOM) for line in file)
    first = next((line for line in lines if line.strip()), b"{}")
    file.seek(0)
    if first.lstrip().startswith(b"["):
        return False
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        # `{` alone, or with the first key, begins a document; anything else is an invalid line, which is reported
        return first.strip() != b"{" and not first.rstrip().endswith((b",", b"{", b"["))
    return True


def _document(file: IO[bytes], source: str) -> tuple[list[object], bool]:
    """Return the entries, and whether the document is a listing with `has_more`."""
    size = file.seek(0, 2)
    if size > _MAX_DOCUMENT:
        raise ThreadholdError(
            f"`{source}` is one JSON document of {size / 1e9:.1f} GB; at most {_MAX_DOCUMENT / 1e9:.1f} GB can be read "
            "as one. Write one object per line instead (jq -c '.[]')."
        )
    file.seek(0)
    try:
        found = orjson.loads(file.read().removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        raise ThreadholdError(f"`{source}` is neither JSON lines nor one JSON document: {error}.") from error
    if isinstance(found, dict) and isinstance(found.get("data"), list):
        return found["data"], found.get("has_more") is True  # a listing as the API returns it
    return (found if isinstance(found, list) else [found]), False
