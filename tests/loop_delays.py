"""Measures how long a server's work on one request delays other requests."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.process import ServerProcess, processor_s

__all__ = ["HealthProbe", "longest_wait"]


class HealthProbe:
    """Requests `/health` repeatedly on a connection of its own, and measures how long each request waits, in seconds.

    The wait is measured in processor time of the server, in any thread, as each can hold up the event loop: it includes
    the server's own work, but no delays of a busy machine. With `only_loop`, it is that of the event loop's thread. On
    systems without `/proc`, it is the elapsed time.
    """

    def __init__(self, server: ServerProcess, *, only_loop: bool = False) -> None:
        self.waits: list[float] = []
        self._port = server.port
        self._pid = server.pid
        self._loop = Path(f"/proc/{server.pid}/task/{server.pid}/schedstat")
        self._only_loop = only_loop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as connection:
            while not self._stop.wait(0.002):
                started, used = time.monotonic(), self._used()
                connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
                passed = time.monotonic() - started
                self.waits.append(min(passed, self._used() - used) if used else passed)

    def _used(self) -> float:
        if not self._loop.exists():
            return 0.0
        return int(self._loop.read_text().split()[0]) / 1e9 if self._only_loop else processor_s(self._pid)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def longest_wait(
    server: ServerProcess, act: Callable[[], object], *, limit_s: float = 0.0, tries: int = 1, only_loop: bool = False
) -> float:
    """Return the longest wait of `/health` while `act` runs.

    The shortest of several `tries` counts, or the first below `limit_s`: a garbage collection is not caused by the
    request, whose own cost recurs every time.
    """
    longest = []
    for _ in range(tries):
        with HealthProbe(server, only_loop=only_loop) as watch:
            act()
        longest.append(max(watch.waits, default=0.0))
        if longest[-1] < limit_s:
            break
    return min(longest)
