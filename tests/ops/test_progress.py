"""Progress bars appear on a terminal only."""

import os
import sys

import pytest

from tests.process import ROOT

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals here", allow_module_level=True)

import fcntl
import pty
import struct
import termios

PROGRAM = """
import asyncio, sys
from ops.progress import progress, waiting

async def wait():
    async with waiting("asking"):
        await asyncio.sleep(0.7)

with progress() as watch:
    for number in range(1, 6):
        watch("copying", number, 5)
    watch("checking", 1, 1)
asyncio.run(wait())
sys.stdout.write("done")
"""


def on_terminal(stderr_too: bool) -> str:
    """Return what a terminal shows; without `stderr_too` stderr is a file."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        if not stderr_too:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown = b""
    try:
        while block := os.read(terminal, 4096):
            shown += block
    except OSError:  # how a terminal reports that the other end is closed
        pass
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown.decode()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_terminal_shows_the_progress_and_is_cleared_at_the_end() -> None:
    shown = on_terminal(True)
    assert "copying:  " in shown
    assert "checking: " in shown
    assert "asking: 00:00" in shown
    assert shown.rpartition("\r")[2] == "done"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_other_streams_get_no_progress() -> None:
    assert on_terminal(False) == "done"
