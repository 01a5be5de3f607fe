"""Runs the command line and captures its output and exit code."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from server import main
from tests.process import ROOT

__all__ = ["command", "start_command"]


def start_command(folder: Path, *words: str | Path, **settings: str) -> subprocess.Popen[str]:
    """Start a command on the data in `folder`, as a separate process."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "server.py"), *map(str, words)],
        env={**_kept(), "DATA_DIR": str(folder), **settings},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(folder: Path, *words: str | Path, given: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in this process, as its imports take a second; `given` is its standard input."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    stdin = io.TextIOWrapper(io.BytesIO(given.encode()), encoding="utf-8")
    with (
        mock.patch.dict(os.environ, {**_kept(), "DATA_DIR": str(folder), **settings}, clear=True),
        mock.patch.object(sys, "stdin", stdin),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    output, errors = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, code, output, errors)


def _kept() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
