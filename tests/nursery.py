"""Servers that start in a third of the time: forked from a process that has imported libraries, and nothing of ours.

Two seconds of processor time go into the start of a server, most of it into imports, and the tests start more than a
hundred. What is born here is `server.py` as any other: a process of its own that runs the file from its first line,
with the environment, the folder and the log it is given and nothing else, that can be signalled and killed, and tells
how it ended. Tests of the start itself do without (`ServerProcess(..., bare=True)`), as `bench` does.

    with Nursery() as nursery:
        born = nursery.bear(["server.py"], env={...}, cwd=folder, log=log.fileno())
        born.send_signal(signal.SIGTERM)
        assert born.wait(10) == 0

A message to the nursery is a byte with two descriptors, the log and a socket; on the socket comes the order, and go the
new process's id and, when it has ended, how.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

__all__ = ["Born", "Nursery"]

ROOT = Path(__file__).parent.parent
# What takes longest of what every server imports; none of it reads the environment or starts a thread at its import.
LIBRARIES = (
    "aiohttp",
    "fastapi",
    "fastapi_offline",
    "httpcore2",
    "httpx2",
    "json_repair",
    "jsonschema",
    "langchain_openai",
    "langgraph.graph",
    "langserve",
    "numpy",
    "openai",
    "pydantic_settings",
    "sqlite_utils",
    "sse_starlette",
    "uvicorn",
)
_BIRTH_S = 30.0
"""How long a birth may take; the first one waits for all those imports."""


class Born:
    """A process that was born in a nursery; as much of `subprocess.Popen` as the tests use."""

    def __init__(self, line: socket.socket) -> None:
        """`line` is closed when the end is told. Raises ConnectionError where the nursery is gone, TimeoutError."""
        self._line = line
        self._line.settimeout(_BIRTH_S)
        self._told: IO[bytes] = line.makefile("rb")
        self.pid = self._hear_number()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it lives."""
        if self.returncode is None and select.select([self._line], [], [], 0)[0]:
            self._hear()
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end, for so many seconds. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("server.py", timeout)
            self._hear()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    def _hear(self) -> None:
        self.returncode = os.waitstatus_to_exitcode(self._hear_number())
        self._told.close()
        self._line.close()

    def _hear_number(self) -> int:
        if not (told := self._told.readline()):
            raise ConnectionError("the nursery is gone; what it said is above, or in the output of the tests")
        return int(told)


class Nursery:
    """A process that forks servers. It is started for the first of them, and ends with whoever started it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None

    def bear(self, words: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: int) -> Born:
        """Run a Python program with these words as its command line, all that it says written to `log`."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._open(), [b"+"], [log, theirs.fileno()])
        ours.sendall(json.dumps({"words": list(words), "env": dict(env), "cwd": str(cwd)}).encode() + b"\n")
        return Born(ours)

    def close(self) -> None:
        """End it. Those that were born there live on."""
        if self._process is not None and self._door is not None:
            self._door.close()
            self._process.wait(10)
            self._process = self._door = None

    def _open(self) -> socket.socket:
        if self._door is None:
            self._door, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-m", "tests.nursery"]
                env = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
                self._process = subprocess.Popen(command, stdin=theirs, cwd=ROOT, env=env)
        return self._door

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _attend() -> dict[str, Any]:
    """Fork for each message; returns, in a process of its own, the order for it. Ends when nobody can ask any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests, which close the door
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a keeper ended
    with socket.socket(fileno=os.dup(0)) as door:
        while True:
            word, handed, _, _ = socket.recv_fds(door, 1, 2)
            if not word:
                sys.exit(0)
            if os.fork() == 0:
                break
            for descriptor in handed:
                os.close(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log, line = handed
    return _keep(log, socket.socket(fileno=line))


def _keep(log: int, line: socket.socket) -> dict[str, Any]:
    """Fork once more: the parent tells of its child's end, the child returns its order."""
    with line, line.makefile("rb") as asked:
        order: dict[str, Any] = json.loads(asked.readline())
        pid = os.fork()
        if pid:
            line.sendall(b"%d\n" % pid)
            _, status = os.waitpid(pid, 0)
            line.sendall(b"%d\n" % status)
            os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    os.close(nothing)
    os.close(log)
    return order


def main() -> None:
    """Serve as the nursery; in each of its children, become the program that was ordered."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # so that a child's first collection does not copy it all
    order = _attend()
    gc.unfreeze()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = order["words"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
