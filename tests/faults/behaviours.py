"""The ways in which an upstream may misbehave, and how a run on it may lawfully end."""

import gzip
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.hostile import GOOD, Way, Wire, chunk, head

__all__ = ["FLOODS", "KNOWN", "LONG_FLOODS", "WAYS", "Told"]

DONE = b"data: [DONE]\n\n"
REST = chunk(finish="stop") + DONE
KNOWN = frozenset({"server_error", "invalid_prompt", "rate_limit_exceeded"})


@dataclass(frozen=True)
class Told:
    """A way, and what is told of it: a word of `last_error`, or with None that the run completes with `text`."""

    way: Way
    says: str | None
    text: str = GOOD


def sending(*blocks: bytes, every_s: float = 0.0, then_hangs: bool = False) -> Way:
    """Send this, then close the connection, or hang."""

    async def way(wire: Wire) -> None:
        await wire.send(*blocks, every_s=every_s)
        if then_hangs:
            await wire.hang()

    return way


def forever(*begin: bytes, again: bytes, every_s: float = 0.0) -> Way:
    """Send `begin`, then `again` until the other side leaves."""

    async def way(wire: Wire) -> None:
        await wire.send(*begin)
        while True:
            await wire.send(again, every_s=every_s)

    return way


def single(data: bytes) -> Sequence[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def sized(length: str, body: bytes) -> bytes:
    return head("text/event-stream", f"Content-Length: {length}") + body


BEGUN = head() + chunk("All is")
WHOLE = chunk(GOOD) + REST
CAFE = '{"choices": [{"index": 0, "delta": {"content": "café'.encode()
NOISE = random.Random(7).randbytes(20_000)

WAYS = {
    "hangs before the head": Told(Wire.hang, "silent for"),
    "hangs after the head": Told(sending(head(), then_hangs=True), "silent for"),
    "hangs in mid-answer": Told(sending(BEGUN, then_hangs=True), "silent for"),
    "hangs in mid-header": Told(sending(b"HTTP/1.1 200 OK\r\nContent-Ty", then_hangs=True), "silent for"),
    "drips": Told(sending(*single(head() + WHOLE), every_s=0.005), None),
    "closes at once": Told(sending(), "closed the connection"),
    "closes in mid-answer": Told(sending(BEGUN), "ended early"),
    "closes in mid-UTF-8": Told(sending(head(), chunk("All is"), b"data: " + CAFE[:-1]), "not JSON"),
    "sends broken UTF-8": Told(sending(head(), b"data: " + CAFE[:-1] + b'"}}]}\n\n'), "not JSON"),
    "length too short": Told(sending(sized("40", WHOLE)), ""),
    "length too long": Told(sending(sized("4000", chunk("All is"))), "closed the connection"),
    "length too long, yet whole": Told(sending(sized("4000", WHOLE)), None),
    "length below zero": Told(sending(sized("-5", WHOLE)), "no usable HTTP answer"),
    "length no number": Told(sending(sized("many", WHOLE)), "no usable HTTP answer"),
    "length twice": Told(sending(head("text/event-stream", "Content-Length: 5", "Content-Length: 6") + WHOLE), ""),
    "blocks of no size": Told(
        sending(head("text/event-stream", "Transfer-Encoding: chunked") + b"zz\r\n"), "no usable HTTP answer"
    ),
    "blocks that break off": Told(
        sending(head("text/event-stream", "Transfer-Encoding: chunked"), b"zz\r\n", every_s=0.2), "silent for"
    ),
    "block of 2^70 bytes": Told(
        sending(head("text/event-stream", "Transfer-Encoding: chunked") + b"400000000000000000\r\n" + chunk("x")), ""
    ),
    "no HTTP": Told(sending(b"220 mail.example ESMTP\r\n"), "no usable HTTP answer"),
    "noise": Told(sending(NOISE), "no usable HTTP answer"),
    "HTML": Told(sending(head("text/html"), b"<!doctype html><p>Welcome!"), "web page"),
    "HTML under JSON": Told(sending(head("application/json"), b"<!doctype html><p>Welcome!"), ""),
    "a picture": Told(sending(head("image/png"), b"\x89PNG\r\n\x1a\n" + NOISE), "ended early"),
    "plain text": Told(sending(head("text/plain"), WHOLE), None),
    "no type": Told(sending(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", WHOLE), None),
    "nothing": Told(sending(head()), "ended early"),
    "no content": Told(sending(b"HTTP/1.1 204 No Content\r\n\r\n"), "ended early"),
    "an error as JSON": Told(sending(head("application/json"), b'{"error": {"message": "out of cheese"}}'), "cheese"),
    "an error as text": Told(sending(head("application/json"), b'{"error": "out of cheese"}'), "cheese"),
    "an error in the stream": Told(sending(BEGUN, b'data: {"error": {"message": "out of cheese"}}\n\n'), "cheese"),
    "JSON that is none": Told(sending(head("application/json"), b'{"choices": ['), ""),
    "null": Told(sending(head("application/json"), b"null"), ""),
    "noise as events": Told(sending(head(), b"data: " + NOISE + b"\n\n"), "not JSON"),
    "deep JSON": Told(sending(head(), b"data: " + b"[" * 100_000 + b"\n\n"), "not JSON"),
    "half a character": Told(
        sending(head(), b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n', REST), None, "\ufffd"
    ),
    "shapes of nothing": Told(sending(head(), b'data: {"choices": [7]}\n\n'), "wrong shape"),
    "choices by name": Told(sending(head(), b'data: {"choices": {"a": {}}}\n\n'), ""),
    "a number as text": Told(sending(head(), chunk(5), REST), "wrong shape"),
    "null bytes": Told(sending(head(), chunk("a\0b"), REST), None, "a\0b"),
    "usage beyond all bounds": Told(
        sending(
            head(), chunk(GOOD), chunk(finish="stop", usage={"total_tokens": 2**64 - 1, "prompt_tokens": -9}), DONE
        ),
        None,
    ),
    "calls nobody offered": Told(
        sending(head(), b'data: {"choices":[{"delta":{"tool_calls":[{"index":1e9}]}}]}\n\n', REST), None, ""
    ),
    "gzip that is none": Told(sending(head("text/event-stream", "Content-Encoding: gzip"), WHOLE), ""),
    "gzip nobody asked for": Told(
        sending(head("text/event-stream", "Content-Encoding: gzip"), gzip.compress(WHOLE)), None
    ),
    "a redirect in a circle": Told(
        sending(head("text/plain", "Location: /v1/chat/completions", status="307 Temporary Redirect")), "redirect"
    ),
    "an unknown status": Told(sending(head("text/plain", status="799 Odd"), b"odd"), ""),
}
"""Each within a few seconds."""

FLOODS = {
    "endless comments": Told(forever(head(), again=b": still here\n\n" * 1000), "more than"),
    "a line of 100 MB": Told(sending(head(), b"data: ", *[b"x" * 1_000_000] * 100), "more than"),
    "endless headers": Told(forever(b"HTTP/1.1 200 OK\r\n", again=b"X-More: and more\r\n" * 100), "no usable HTTP"),
    "an endless header": Told(forever(b"HTTP/1.1 200 OK\r\nX-More: ", again=b"more" * 1000), "no usable HTTP"),
    "an endless error": Told(forever(head("text/plain", status="400 Bad"), again=b"bad " * 1000), "bad bad"),
    "endless JSON": Told(forever(head("application/json"), again=b"[" * 10_000), "more than"),
    "a bomb of gzip": Told(
        sending(head("text/event-stream", "Content-Encoding: gzip"), gzip.compress(b"data: " + b"0" * 100_000_000, 1)),
        "more than",
    ),
}
"""Endless, or large; what is told ends them before they fill the memory."""

LONG_FLOODS = {
    "endless tokens": Told(forever(head(), again=chunk("token ") * 100), "more than"),
    "endless thoughts": Told(forever(head(), chunk("<think>"), again=chunk("hm ") * 100), "more than"),
    "endless empty chunks": Told(forever(head(), again=chunk("") * 100), "more than"),
}
"""What costs a while until it is too much."""
