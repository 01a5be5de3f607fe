"""The process that reads one file: `python -m documents.child PATH SUFFIX LIMITS`; the text goes to stdout.

Exit 0: the text is complete; stderr ends with a line of JSON, `{"note": ...}`, if there is a note on the text.
Exit 3: the file is refused; stderr ends with a line of JSON, `{"code": ..., "message": ...}`. The parent interprets any
other end: killed for time or memory, or a library's crash.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Final, Literal, TypedDict

from documents.extraction_errors import ExtractionError, invalid_file
from documents.kinds import detect_kind
from documents.readers import FileReader

__all__ = ["REFUSED", "LimitValues", "Report", "main"]

REFUSED = 3

_CONTROLS: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufdd0-\ufdef\ufeff\ufffe\uffff]")
"""Characters that are invisible in text and split words for search."""
_PAGE_BREAKS: Final = str.maketrans("\x0b\x0c", "\n\n")


class LimitValues(TypedDict):
    """The limits of one file; see `documents.extraction.Limits`."""

    time_s: int
    memory_bytes: int
    chars: int
    unpacked_bytes: int


class Report(TypedDict, total=False):
    """The last line of stderr: a note on the text, or the code and the message of a refusal."""

    note: str
    code: Literal["unsupported_file", "invalid_file"]
    message: str


def _limit(limits: LimitValues) -> None:
    """Limit this process: address space, processor time, no writes to files, no core dump, low priority."""
    if sys.platform == "win32":
        return
    import resource

    for kind, maximum in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_CPU, limits["time_s"] + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(kind, (maximum, maximum))
        except (ValueError, OSError):  # macOS does not support RLIMIT_AS; a lower hard limit may already be set
            continue
    os.nice(10)


def _write(path: Path, suffix: str, limits: LimitValues) -> str | None:
    """Write the text; return a note on what was guessed or replaced, if anything."""
    kind = detect_kind(path, suffix, max_unpacked_bytes=limits["unpacked_bytes"])
    reader = FileReader(kind, path, limits["chars"] * 4)
    left = limits["chars"]
    replaced = 0
    for part in reader.parts():
        text = _CONTROLS.sub("", part.translate(_PAGE_BREAKS))
        left -= len(text) + 1
        if left < 0:
            raise invalid_file(f"The file has more than {limits['chars']} characters of text. Split it.")
        replaced += text.count("\ufffd")
        sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()
    if replaced and reader.note is None:
        count = "1 character" if replaced == 1 else f"{replaced} characters"
        return f"The text has {count} that could not be read (U+FFFD)."
    return reader.note


def main(arguments: list[str]) -> int:
    """Read the file; return the exit code."""
    path, suffix = Path(arguments[0]), arguments[1]
    limits: LimitValues = json.loads(arguments[2])
    _limit(limits)
    try:
        note = _write(path, suffix, limits)
    except ExtractionError as refused:
        error_to_report = refused
    except MemoryError:
        error_to_report = invalid_file(f"The file cannot be read within {limits['memory_bytes'] >> 20} MB of memory.")
    except Exception as error:  # foreign code: libraries raise their own errors for files that they cannot read
        error_to_report = invalid_file(
            f"The file is damaged, or of a different kind than it seems ({type(error).__name__})."
        )
    else:
        if note is not None:
            print(json.dumps({"note": note}), file=sys.stderr)  # noqa: T201 - to the parent
        return 0
    print(json.dumps({"code": error_to_report.code, "message": error_to_report.message}), file=sys.stderr)  # noqa: T201 - to the parent
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
