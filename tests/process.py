"""The server as a separate process, for tests that kill it. Other tests use the fixtures of `conftest.py`."""

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx2

from tests.forked import ForkedServer

__all__ = ["ROOT", "ServerProcess", "free_port", "processor_s", "resident_mb"]

ROOT = Path(__file__).parent.parent
_START_S = 90.0

forks = False
"""Whether servers are forked; `conftest.py` sets it, so that only tests have a fork server."""


def free_port() -> int:
    """Return a port that was just free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB; 0 on systems without `/proc`."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else 0.0


def processor_s(pid: int) -> float:
    """Return the processor time of a process in seconds, including that of threads that have ended.

    It reads the process's POSIX clock: `/proc/PID/stat` counts in steps of 10 ms. Linux only.

    Raises:
        ProcessLookupError: There is no such process.
    """
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise ProcessLookupError(f"No process has the id {pid}.")
    return time.clock_gettime(clock.value)


class ServerProcess:
    """`server.py` on a port, with its data in `folder`. Can be killed and started again on the same data."""

    def __init__(
        self,
        folder: Path,
        *,
        root: Path = ROOT,
        program: str = "server.py",
        before: Sequence[str] = (),
        inside: int | None = None,
        bare: bool = False,
        **settings: str,
    ) -> None:
        """Prepare a server.

        `root` is the checkout whose server runs; another checkout's server uses this environment. `before` is a command
        that starts the program. `inside` is the id of a process whose user and mount namespaces it enters. `bare`
        starts it by exec, for tests of the start itself or of imports. `program` is the file that starts the server.
        """
        python = sys.executable if root == ROOT else str(root / ".venv/bin/python")
        self._command = [*before, python, str(root / program)]
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self._settings: Mapping[str, str] = {"DATA_DIR": str(folder), "PORT": str(self.port), **settings}
        self._bare = bare or bool(before) or root != ROOT
        self._inside = inside
        self._process: subprocess.Popen[bytes] | ForkedServer | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until all routes answer: `/health` answers before they are loaded."""
        self.start_healthy()
        return self.wait_ready()

    def wait_ready(self) -> Self:
        """Wait until all routes answer. Raises AssertionError with the log if the start fails."""
        with httpx2.Client(timeout=_START_S) as client, contextlib.suppress(httpx2.TransportError):
            if client.get(f"{self.url}/").status_code == 200:
                return self
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(60)  # the start failed, and the log has the cause
        raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    def start_healthy(self) -> None:
        """Start it and wait for its first healthy answer."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        env, cwd = {**kept, **self._settings}, self.log.parent
        with self.log.open("ab") as log:
            if self._bare or not forks:
                assert self._inside is None, "only forked servers enter namespaces"
                self._process = subprocess.Popen(self._command, env=env, cwd=cwd, stdout=log, stderr=log)
            else:
                words = self._command[1:]
                self._process = ForkedServer(words, env=env, cwd=cwd, log=log.fileno(), inside=self._inside)
        end = time.monotonic() + _START_S
        # One client for all requests: each client makes a TLS context, 40 ms of work that would delay the server's
        # start.
        with httpx2.Client(timeout=10) as client:
            while time.monotonic() < end:
                try:
                    if client.get(f"{self.url}/health").status_code == 200:
                        return
                except httpx2.TransportError:
                    if self._process.poll() is not None:
                        break
                    time.sleep(0.01)
        raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    def start_again(self) -> Self:
        """Start it unless it runs: another test that shares it can have ended it."""
        return self if self._process is not None and self._process.poll() is None else self.start()

    def kill(self) -> None:
        """Send SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the process for this time, as if another program used the processor."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Send SIGTERM without waiting."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, limit_s: float) -> int:
        """Wait for the process to end; returns its exit code."""
        assert self._process is not None
        return self._process.wait(limit_s)

    def request(self, method: str, path: str, json: Any = None) -> Any:
        """Send one JSON request and check that its status is 200."""
        answer = httpx2.request(method, self.url + path, json=json, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
