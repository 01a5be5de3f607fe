"""Accepts many waiting connections in each iteration of the event loop.

uvloop accepts one connection per iteration. When iterations are long, because many connections are busy, new clients
would wait for all that came before them, although clients that are already connected get responses quickly.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["Acceptor"]

logger = logging.getLogger("threadhold")

_MAX_ACCEPTS: Final = 64
"""Maximum connections accepted in an iteration; each takes about 0.1 ms."""

_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})

_CLOSE_S: Final = 1.0
_PAUSE_S: Final = 1.0
"""How long nothing is accepted after an error, such as too many open files, which every iteration would report."""


class Acceptor:
    """Accepts the connections of one listening socket. Its owner closes the socket after `close`."""

    def __init__(
        self, listening: socket.socket, make_protocol: Callable[[], asyncio.Protocol], *, backlog: int
    ) -> None:
        """Start to listen. Belongs to the running event loop."""
        self._listening = listening
        self._make_protocol = make_protocol
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)
        """A spare file: when the process can open no more, it is closed so that a connection can be refused."""
        listening.setblocking(False)
        listening.listen(backlog)
        self._resume()

    async def close(self) -> None:
        """Accept no more connections, and wait for those that were accepted in the last pass."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._close_spare()
        if self._connecting:
            _, late = await asyncio.wait(self._connecting, timeout=_CLOSE_S)
            for connecting in late:
                connecting.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_MAX_ACCEPTS):
            try:
                accepted, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:  # the client has left already
                continue
            except OSError as error:
                if error.errno in _NO_FILES and self._end_one():
                    continue
                logger.error("connections cannot be accepted: %s", error.strerror or error)
                self._loop.remove_reader(self._listening)
                self._pause = self._loop.call_later(_PAUSE_S, self._resume)
                return
            connecting = self._loop.create_task(self._connect(accepted))
            self._connecting.add(connecting)
            connecting.add_done_callback(self._connecting.discard)

    def _end_one(self) -> bool:
        """Close the next connection, so that its client does not wait. Returns False if that is impossible."""
        self._close_spare()
        try:
            self._listening.accept()[0].close()
        except BlockingIOError:  # it has left already
            pass
        except OSError:  # another thread has taken the file
            return False
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)
        return self._spare is not None

    def _close_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            accepted.setblocking(False)
            if accepted.family in (socket.AF_INET, socket.AF_INET6):
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # events are small, and must not wait
            await self._loop.connect_accepted_socket(self._make_protocol, accepted)
        except OSError:  # the client has left already
            accepted.close()
        except asyncio.CancelledError:  # the server stops
            accepted.close()
            raise
