"""Parses the requests of one connection, and ignores every offer to upgrade the protocol.

A request can offer to continue in another protocol (`Connection: Upgrade`, `Upgrade: h2c`); Java's HttpClient does so
by default. A server may ignore the offer (RFC 9110, section 7.8), and this one supports HTTP/1.1 only. httptools cannot
ignore it: it stops at the end of the head and skips the body. So the head is parsed a second time, without `Upgrade`,
and everything after it is read as usual.

Invariant: `Upgrade` changes neither how a body is read nor where the next request starts.
"""

from typing import Protocol

import httptools

__all__ = ["Receiver", "RequestParser"]


class Receiver(Protocol):
    """What the parser needs from its connection, besides httptools' callbacks."""

    url: bytes
    """The request target, as received."""

    headers: list[tuple[bytes, bytes]]
    """Names in lower case, and values."""


class RequestParser(httptools.HttpRequestParser):
    """Calls `receiver` back for each request.

    If `should_upgrade()` is true in `on_headers_complete` and `on_message_complete`, the receiver must return
    immediately: the same request starts again with `on_message_begin`.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._start()

    def _start(self) -> None:
        """Prepare for a new head. httptools resets the parser's whole state in `__init__`."""
        super().__init__(self._receiver)
        # As in uvicorn: data after a request with `Connection: close` is dropped instead of raising an error.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes | memoryview) -> None:  # type: ignore[override] # the others are never fed
        """Parse the next bytes.

        Raises:
            httptools.HttpParserError: The bytes are not HTTP, or are a CONNECT request, which no API server handles.
        """
        rest = data
        while True:
            try:
                super().feed_data(rest)
            except httptools.HttpParserUpgrade as stopped:
                if self.get_method() == b"CONNECT":
                    raise httptools.HttpParserInvalidMethodError("CONNECT is not supported") from None
                rest = memoryview(rest)[stopped.args[0] :]
                head = self._head_without_offer()
                self._start()  # a request with `Connection: close` would otherwise have been this parser's last
                super().feed_data(head)
            else:
                return

    def _head_without_offer(self) -> bytes:
        method, version = self.get_method(), self.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self._receiver.url, version)]
        lines += [b"%b: %b" % header for header in self._receiver.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])
