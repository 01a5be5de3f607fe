"""Misbehaviour of upstreams, and how a run on each ends."""

import gzip
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.hostile import GOOD, Behaviour, Wire, chunk, head

__all__ = ["BEHAVIOURS", "FLOODS", "KNOWN", "LONG_FLOODS", "Case"]

DONE = b"data: [DONE]\n\n"
REST = chunk(finish="stop") + DONE
KNOWN = frozenset({"server_error", "invalid_prompt", "rate_limit_exceeded"})


@dataclass(frozen=True)
class Case:
    """A behaviour and its result: a word of `last_error`, or None if the run completes with `text`."""

    behave: Behaviour
    error: str | None
    text: str = GOOD


def sending(*blocks: bytes, every_s: float = 0.0, then_hangs: bool = False) -> Behaviour:
    """Send the blocks, then close the connection or hang."""

    async def behave(wire: Wire) -> None:
        await wire.send(*blocks, every_s=every_s)
        if then_hangs:
            await wire.hang()

    return behave


def forever(*first: bytes, again: bytes, every_s: float = 0.0) -> Behaviour:
    """Send `first`, then `again` until the other side disconnects."""

    async def behave(wire: Wire) -> None:
        await wire.send(*first)
        while True:
            await wire.send(again, every_s=every_s)

    return behave


def single(data: bytes) -> Sequence[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def sized(length: str, body: bytes) -> bytes:
    return head("text/event-stream", f"Content-Length: {length}") + body


BEGUN = head() + chunk("All is")
WHOLE = chunk(GOOD) + REST
CAFE = '{"choices": [{"index": 0, "delta": {"content": "café'.encode()
NOISE = random.Random(7).randbytes(20_000)

BEHAVIOURS = {
    "hangs before the head": Case(Wire.hang, "silent for"),
    "hangs after the head": Case(sending(head(), then_hangs=True), "silent for"),
    "hangs in mid-answer": Case(sending(BEGUN, then_hangs=True), "silent for"),
    "hangs in mid-header": Case(sending(b"HTTP/1.1 200 OK\r\nContent-Ty", then_hangs=True), "silent for"),
    "sends single bytes slowly": Case(sending(*single(head() + WHOLE), every_s=0.005), None),
    "closes immediately": Case(sending(), "closed the connection"),
    "closes in mid-answer": Case(sending(BEGUN), "ended early"),
    "closes in mid-UTF-8": Case(sending(head(), chunk("All is"), b"data: " + CAFE[:-1]), "not JSON"),
    "sends broken UTF-8": Case(sending(head(), b"data: " + CAFE[:-1] + b'"}}]}\n\n'), "not JSON"),
    "length too short": Case(sending(sized("40", WHOLE)), ""),
    "length too long": Case(sending(sized("4000", chunk("All is"))), "closed the connection"),
    "length too long for a complete answer": Case(sending(sized("4000", WHOLE)), None),
    "negative length": Case(sending(sized("-5", WHOLE)), "no usable HTTP answer"),
    "length that is not a number": Case(sending(sized("many", WHOLE)), "no usable HTTP answer"),
    "length twice": Case(sending(head("text/event-stream", "Content-Length: 5", "Content-Length: 6") + WHOLE), ""),
    "block without a size": Case(
        sending(head("text/event-stream", "Transfer-Encoding: chunked") + b"zz\r\n"), "no usable HTTP answer"
    ),
    "block without a size, after the head": Case(
        sending(head("text/event-stream", "Transfer-Encoding: chunked"), b"zz\r\n", every_s=0.2), "silent for"
    ),
    "block of 2^70 bytes": Case(
        sending(head("text/event-stream", "Transfer-Encoding: chunked") + b"400000000000000000\r\n" + chunk("x")), ""
    ),
    "no HTTP": Case(sending(b"220 mail.example ESMTP\r\n"), "no usable HTTP answer"),
    "random bytes": Case(sending(NOISE), "no usable HTTP answer"),
    "HTML": Case(sending(head("text/html"), b"<!doctype html><p>Welcome!"), "web page"),
    "HTML declared as JSON": Case(sending(head("application/json"), b"<!doctype html><p>Welcome!"), ""),
    "a picture": Case(sending(head("image/png"), b"\x89PNG\r\n\x1a\n" + NOISE), "ended early"),
    "plain text": Case(sending(head("text/plain"), WHOLE), None),
    "no type": Case(sending(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", WHOLE), None),
    "nothing": Case(sending(head()), "ended early"),
    "no content": Case(sending(b"HTTP/1.1 204 No Content\r\n\r\n"), "ended early"),
    "an error as JSON": Case(sending(head("application/json"), b'{"error": {"message": "out of cheese"}}'), "cheese"),
    "an error as text": Case(sending(head("application/json"), b'{"error": "out of cheese"}'), "cheese"),
    "an error in the stream": Case(sending(BEGUN, b'data: {"error": {"message": "out of cheese"}}\n\n'), "cheese"),
    "invalid JSON": Case(sending(head("application/json"), b'{"choices": ['), ""),
    "null": Case(sending(head("application/json"), b"null"), ""),
    "random bytes as an event": Case(sending(head(), b"data: " + NOISE + b"\n\n"), "not JSON"),
    "deep JSON": Case(sending(head(), b"data: " + b"[" * 100_000 + b"\n\n"), "not JSON"),
    "half a surrogate pair": Case(
        sending(head(), b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n', REST), None, "\ufffd"
    ),
    "a choice that is not an object": Case(sending(head(), b'data: {"choices": [7]}\n\n'), "wrong shape"),
    "choices by name": Case(sending(head(), b'data: {"choices": {"a": {}}}\n\n'), ""),
    "a number as text": Case(sending(head(), chunk(5), REST), "wrong shape"),
    "null bytes": Case(sending(head(), chunk("a\0b"), REST), None, "a\0b"),
    "usage out of range": Case(
        sending(
            head(), chunk(GOOD), chunk(finish="stop", usage={"total_tokens": 2**64 - 1, "prompt_tokens": -9}), DONE
        ),
        None,
    ),
    "calls that were not offered": Case(
        sending(head(), b'data: {"choices":[{"delta":{"tool_calls":[{"index":1e9}]}}]}\n\n', REST), None, ""
    ),
    "invalid gzip": Case(sending(head("text/event-stream", "Content-Encoding: gzip"), WHOLE), ""),
    "gzip that was not requested": Case(
        sending(head("text/event-stream", "Content-Encoding: gzip"), gzip.compress(WHOLE)), None
    ),
    "a redirect loop": Case(
        sending(head("text/plain", "Location: /v1/chat/completions", status="307 Temporary Redirect")), "redirect"
    ),
    "an unknown status": Case(sending(head("text/plain", status="799 Odd"), b"odd"), ""),
}
"""Behaviours that end within a few seconds."""

FLOODS = {
    "endless comments": Case(forever(head(), again=b": still here\n\n" * 1000), "more than"),
    "a line of 100 MB": Case(sending(head(), b"data: ", *[b"x" * 1_000_000] * 100), "more than"),
    "endless headers": Case(forever(b"HTTP/1.1 200 OK\r\n", again=b"X-More: and more\r\n" * 100), "no usable HTTP"),
    "an endless header": Case(forever(b"HTTP/1.1 200 OK\r\nX-More: ", again=b"more" * 1000), "no usable HTTP"),
    "an endless error": Case(forever(head("text/plain", status="400 Bad"), again=b"bad " * 1000), "bad bad"),
    "endless JSON": Case(forever(head("application/json"), again=b"[" * 10_000), "more than"),
    "a gzip bomb": Case(
        sending(head("text/event-stream", "Content-Encoding: gzip"), gzip.compress(b"data: " + b"0" * 100_000_000, 1)),
        "more than",
    ),
}
"""Endless or large answers, which are aborted before they fill the memory."""

LONG_FLOODS = {
    "endless tokens": Case(forever(head(), again=chunk("token ") * 100), "more than"),
    "endless reasoning": Case(forever(head(), chunk("<think>"), again=chunk("hm ") * 100), "more than"),
    "endless empty chunks": Case(forever(head(), again=chunk("") * 100), "more than"),
}
"""Endless answers that take longer to reach their limit."""
