"""One child process, as used by the thread that owns it: one request at a time, each within its budget."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, TypedDict

import orjson

from wire.errors import BudgetExceeded
from workers.budgets import MAX_REPLY_BYTES, Budget
from workers.frames import frame, read_frame

__all__ = ["ChildProcess", "child_environment"]

_ROOT: Final = str(Path(__file__).parents[1])
_START_S: Final = 30.0
"""Extra wall time for the first task of a child, which starts an interpreter and imports libraries."""
_END_S: Final = 5.0


def child_environment() -> dict[str, str]:
    """Return the environment of a child that reads untrusted input: the path of the modules, and no secrets of ours."""
    return {"PYTHONPATH": os.pathsep.join((*filter(None, sys.path), _ROOT))}


class Reply(TypedDict, total=False):
    """A child's answer: the function's result, or why there is none (`size`, `memory`, or the function's error)."""

    value: object
    failed: str


class ChildProcess:
    """A child, started with its first request. Only `assign` and `kill` can be called from other threads."""

    def __init__(self, memory_bytes: int) -> None:
        self.tasks = 0
        """The number of requests that it has answered."""
        self.killed = False
        """Whether `kill` was called since the last `assign`. A process that is replaced in between does not reset it:
        the kill can come before there is a process, and it concerns the task."""
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def ask(self, function: str, arguments: tuple[object, ...], options: dict[str, object], budget: Budget) -> object:
        """Return the function's result, as JSON represents it.

        Raises:
            BudgetExceeded: the task used up its time or memory, its result is too large, or the child crashed or could
                not be started.
            RuntimeError: the function itself failed.
        """
        request = {"function": function, "arguments": arguments, "options": options, "cpu_s": budget.cpu_s}
        try:
            framed = frame(json.dumps(request).encode())
        except (RecursionError, ValueError):
            raise BudgetExceeded("It nests too deeply.", why="size") from None
        patience = budget.wall_s if self.tasks else budget.wall_s + _START_S
        try:
            self._start()
            reply = self._exchange(framed, time.monotonic() + patience)
        except TimeoutError:
            self.end()
            raise BudgetExceeded(f"There was no answer within {budget.wall_s:g} s.", why="late") from None
        except (OSError, ValueError):
            reply = None
        if reply is None:
            raise self._exit_reason(budget)
        self.tasks += 1
        decoded: Reply = _decode(reply)
        if "failed" not in decoded:
            return decoded["value"]
        if decoded["failed"] == "size":
            raise BudgetExceeded(f"Its result has more than {MAX_REPLY_BYTES >> 20} MB.", why="size")
        if decoded["failed"] != "memory":
            raise RuntimeError(f"a check failed: {decoded['failed']}")
        self.end()  # its remaining memory can be fragmented
        raise BudgetExceeded(f"It takes more than {self._memory_bytes >> 20} MB of memory.", why="memory")

    @property
    def pid(self) -> int | None:
        """The process id while there is a process."""
        process = self._process
        return None if process is None else process.pid

    def assign(self) -> None:
        """Prepare for a new task, which an earlier `kill` does not concern."""
        self.killed = False

    def kill(self) -> None:
        """End the process now, with the task that was assigned, even if it has not been sent yet."""
        self.killed = True
        if (process := self._process) is not None:
            process.kill()

    def end(self) -> None:
        """End the process, collect it, and close the socket."""
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(_END_S)
        self._process, self._socket, self.tasks = None, None, 0

    def _start(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                return
            self.end()  # it died while idle
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "workers.child", str(self._memory_bytes)],
                cwd=_ROOT,
                env=child_environment(),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # only the server handles Ctrl-C
            )

    def _exchange(self, framed: bytes, until: float) -> bytes | None:
        connection = self._socket
        assert connection is not None, "started"
        if self.killed:  # `kill` was called before this process existed
            return None

        def receive(size: int) -> bytes:
            connection.settimeout(max(until - time.monotonic(), 0.001))
            return connection.recv(size)

        connection.settimeout(max(until - time.monotonic(), 0.001))
        connection.sendall(framed)
        return read_frame(receive, MAX_REPLY_BYTES + 1024)

    def _exit_reason(self, budget: Budget) -> BudgetExceeded:
        """Collect a child that ended during a task, and return the reason."""
        code = None
        if self._process is not None:
            if self.killed:
                self._process.kill()
            try:
                code = self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                code = None
        self.end()
        if code is not None and code == -getattr(signal, "SIGPROF", 0):
            return BudgetExceeded(f"It takes more than {budget.cpu_s:g} s of processor time.", why="time")
        return BudgetExceeded("It crashed the process that executes it.", why="crash")


def _decode(reply: bytes) -> Any:  # as of `json.loads`
    try:
        return orjson.loads(reply)
    except orjson.JSONDecodeError:  # half a surrogate pair
        return json.loads(reply)
