"""Sends one request repeatedly on many connections: `flood.py PORT CONNECTIONS SECONDS`, the request on stdin.

Exits with an error if there is no answer. It is a separate program so that it can use another processor core.
"""

import selectors
import socket
import sys
import time
from contextlib import ExitStack

_DEPTH = 2
"""Requests that each connection sends before it reads an answer."""


def flood(port: int, connections: int, seconds: float, request: bytes) -> int:
    """Return the number of answers."""
    answers, end = 0, time.monotonic() + seconds
    with selectors.DefaultSelector() as selector, ExitStack() as stack:

        def connect() -> None:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            connection.sendall(request * _DEPTH)
            selector.register(connection, selectors.EVENT_READ)

        for _ in range(connections):
            connect()
        while time.monotonic() < end:
            for key, _ in selector.select(0.1):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                try:
                    received = connection.recv(65536)
                    answered = received.count(b"HTTP/1.1 ")
                    connection.sendall(request * answered)
                except OSError:
                    received = b""
                answers += received.count(b"HTTP/1.1 ")
                if not received:
                    selector.unregister(connection)
                    connection.close()
                    connect()
    return answers


if __name__ == "__main__":
    sys.exit(not flood(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.stdin.buffer.read()))
