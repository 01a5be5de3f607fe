"""Reads a file's text in a separate process, which is killed if it exceeds its time limit."""

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from documents.child import REFUSED, LimitValues, Report
from wire.errors import UnreadableFile
from workers import child_environment

__all__ = ["Extracted", "Extractor", "Limits"]

logger = logging.getLogger("threadhold.documents")

_ROOT: Final = str(Path(__file__).parents[1])
_BLOCK: Final = 256 * 1024
_MAX_STDERR_BYTES: Final = 64 * 1024
"""Maximum bytes of stderr that are kept."""
_KILL_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one file: seconds, bytes of address space, characters of text (20 million are about 5 million tokens),
    and bytes of an archive's unpacked content."""

    time_s: int = 120
    memory_bytes: int = 1024 * 1024 * 1024
    chars: int = 20_000_000
    unpacked_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Extracted:
    """A file's text, as blocks of UTF-8 that can end within a character. `note` reports to the file's owner what was
    guessed or replaced, such as the encoding.

    The blocks are not joined, because decoding or joining 80 MB in one call would stop every thread of the server for a
    tenth of a second.
    """

    blocks: Sequence[bytes]
    note: str | None = None


class Extractor:
    """Reads files. The caller limits how many are read concurrently."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    async def read(self, path: Path, filename: str) -> Extracted:
        """Return the file's text.

        The content determines the file's kind; the suffix of `filename` decides only between kinds of text, and for old
        Excel files. Raises UnreadableFile. Cancelling the call ends the process.
        """
        limits = self._limits
        limit_values: LimitValues = {
            "time_s": limits.time_s,
            "memory_bytes": limits.memory_bytes,
            "chars": limits.chars,
            "unpacked_bytes": limits.unpacked_bytes,
        }
        suffix = PurePosixPath(filename).suffix.lower()[:16]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "documents.child", str(path), suffix, json.dumps(limit_values)),
            cwd=_ROOT,
            env=child_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(limits.time_s):
                blocks, errors = await asyncio.gather(
                    _drain(process.stdout, limits.chars * 4 + _BLOCK), _drain(process.stderr, _MAX_STDERR_BYTES)
                )
                code = await process.wait()
        except TimeoutError:
            raise _invalid(
                f"The file could not be read within {limits.time_s:g} s. Split it into smaller files."
            ) from None
        finally:
            await asyncio.shield(_end(process))
        if code != 0:
            raise _refusal(code, b"".join(errors))
        return Extracted(blocks, _note(b"".join(errors)))


async def _drain(stream: asyncio.StreamReader | None, maximum: int) -> list[bytes]:
    """Read to the end, in blocks; those beyond `maximum` bytes are dropped."""
    assert stream is not None, "piped"
    blocks: list[bytes] = []
    size = 0
    while block := await stream.read(_BLOCK):
        if size < maximum:
            blocks.append(block)
        size += len(block)
    return blocks


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        try:
            process.kill()
        except ProcessLookupError:
            return
        async with asyncio.timeout(_KILL_S):
            await process.wait()


def _note(errors: bytes) -> str | None:
    """Return the note of a process that succeeded; libraries may have written warnings before it."""
    last = errors.strip().rpartition(b"\n")[2]
    try:
        report: Report = json.loads(last)
    except ValueError:
        return None
    return str(report["note"]) if isinstance(report, dict) and "note" in report else None


def _refusal(code: int, errors: bytes) -> UnreadableFile:
    """Return the error that explains why a process failed."""
    if code == REFUSED:
        report: Report = json.loads(errors.strip().splitlines()[-1])
        return UnreadableFile(report["message"], code=report["code"])
    logger.warning("a file reader ended with %d: %s", code, errors[-500:].decode("utf-8", "replace"))
    return _invalid("Reading the file failed: it needs too much time or memory, or is damaged.")


def _invalid(message: str) -> UnreadableFile:
    return UnreadableFile(message, code="invalid_file")
