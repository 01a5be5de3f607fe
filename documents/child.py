"""The process that reads one file: `python -m documents.child PATH SUFFIX LIMITS`; the text goes to stdout.

Exit 0: that was all. Exit 3: the file is refused, and stderr ends with a line of JSON that says why. Anything else
(killed for time or memory, a crash of a library) is for the parent to interpret.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from documents.kinds import tell_kind
from documents.readers import read_parts
from documents.refusals import Refused, broken

__all__ = ["REFUSED", "main"]

REFUSED = 3


def _limit(limits: dict[str, Any]) -> None:
    """Bind this process to its limits: address space, processor time, no file written, no core, low priority."""
    if sys.platform == "win32":
        return
    import resource

    for kind, most in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_CPU, limits["time_s"] + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # macOS knows no RLIMIT_AS, and a lower hard limit may be set already
            continue
    os.nice(10)


def _write(path: Path, suffix: str, limits: dict[str, Any]) -> None:
    kind = tell_kind(path, suffix, max_unpacked_bytes=limits["unpacked_bytes"])
    left = limits["chars"]
    for part in read_parts(kind, path, limits["chars"] * 4):
        left -= len(part) + 1
        if left < 0:
            raise broken(f"The file has more than {limits['chars']} characters of text. Split it.")
        sys.stdout.buffer.write(part.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def main(arguments: list[str]) -> int:
    """Read the file; returns the exit code."""
    path, suffix, limits = Path(arguments[0]), arguments[1], json.loads(arguments[2])
    _limit(limits)
    try:
        _write(path, suffix, limits)
    except Refused as refused:
        told = refused
    except MemoryError:
        told = broken(f"The file cannot be read within {limits['memory_bytes'] >> 20} MB of memory.")
    except Exception as error:  # whatever a library does with what it cannot read
        told = broken(f"The file is broken, or not what its name says ({type(error).__name__}).")
    else:
        return 0
    print(json.dumps({"code": told.code, "message": told.message}), file=sys.stderr)  # noqa: T201 - to the parent
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
