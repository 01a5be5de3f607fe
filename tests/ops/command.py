"""The command line as a person meets it: a process of its own, with what it says and its exit code."""

import os
import subprocess
import sys
from pathlib import Path

from tests.process import ROOT

__all__ = ["begin", "command"]


def begin(folder: Path, *words: str | Path, **settings: str) -> subprocess.Popen[str]:
    """Begin a command on the data in `folder`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "server.py"), *map(str, words)],
        env={**kept, "DATA_DIR": str(folder), **settings},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(
    folder: Path, *words: str | Path, given: str | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `given` is its standard input. None may ever show a traceback."""
    with begin(folder, *words, **settings) as process:
        out, err = process.communicate(given, timeout=50)
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(words, process.returncode, out, err)
