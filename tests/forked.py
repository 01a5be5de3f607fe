"""Forks servers from a process that has imported the libraries and our modules, in a fifth of the usual start time.

Starting a server takes two seconds of processor time, mostly for imports, and the tests start more than a hundred. A
forked server is `server.py` as usual: a process of its own that runs the file from its first line, with the
environment, folder and log that it is given. Tests of the start itself use `ServerProcess(..., bare=True)`, as `bench`
does.
"""

import atexit
import contextlib
import ctypes
import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, Final

__all__ = ["ForkedServer", "run_forked"]

_fork_server: Final = multiprocessing.get_context("forkserver")
_fork_server.set_forkserver_preload(["tests.preload"])


class ForkedServer:
    """A running Python program, with the part of `subprocess.Popen`'s interface that the tests use."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: int,
        errors: int | None = None,
        inside: int | None = None,
    ) -> None:
        """Run a Python program with these command-line arguments and its output written to `log`.

        Its unexpected errors go to `errors` if that is another file. `inside` is the id of a process whose user and
        mount namespaces it enters.
        """
        outputs = [DupFd(log), DupFd(log if errors is None else errors)]
        self._process = _fork_server.Process(
            target=_run, args=(list(words), dict(env), str(cwd), outputs, inside), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Wait for its end, for at most this many seconds. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("server.py", timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run_forked(
    words: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a Python program to its end. Raises subprocess.TimeoutExpired after it has ended the program."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = ForkedServer(words, env=env, cwd=cwd, log=out.fileno(), errors=errors.fileno())
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
        out.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, code, out.read(), errors.read())


def _enter(pid: int) -> None:
    """Enter the user and mount namespaces of a process (Linux; `os.setns` exists from Python 3.12)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.ExitStack() as stack:
        for file in [stack.enter_context(Path(f"/proc/{pid}/ns/{kind}").open()) for kind in ("user", "mnt")]:
            if libc.setns(file.fileno(), 0):
                raise OSError(ctypes.get_errno(), f"cannot enter {file.name}")


def _run(words: list[str], env: dict[str, str], cwd: str, outputs: list[Any], inside: int | None) -> None:
    """Replace the forked process with the requested program. Runs in the new process."""
    gc.unfreeze()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a fork server ignores SIGINT
    for target, output in enumerate(outputs, start=1):
        descriptor: int = output.detach()
        os.dup2(descriptor, target)
        os.close(descriptor)
    if inside is not None:
        _enter(inside)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent)
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends a process without flushing them
