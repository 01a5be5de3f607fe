"""The event stream format, at every chunk boundary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.sse import SseDecoder
from tests.cpu_time import limit_cpu_time
from wire.errors import UpstreamFailed

STREAMS = {
    "lf": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "cr": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "mixed line ends": (b"data: a\r\n\ndata: b\r\r\ndata: c\n\r\n", [b"a", b"b", b"c"]),
    "no space after the colon": (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
    "comments and other fields": (b": hi\n\nevent: x\nid: 1\nretry: 5\ndata: a\n: b\n\n", [b"a"]),
    "several data lines": (b"data: a\ndata\ndata: b\n\n", [b"a\n\nb"]),
    "several data lines, crlf": (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "characters of several bytes": ("data: é😀\r\n\r\ndata: 漢\n\n".encode(), ["é😀".encode(), "漢".encode()]),
    "line separators that are none": ("data: a\u2028b\x0b\x0c\x85\n\n".encode(), ["a\u2028b\x0b\x0c\x85".encode()]),
    "empty data": (b"data:\n\ndata: \n\n", [b"", b""]),
    "no last blank line": (b"data: a\n\ndata: [DONE]\n", [b"a", b"[DONE]"]),
    "no last line end": (b"data: a\r\n\r\ndata: [DONE]", [b"a", b"[DONE]"]),
    "ends in CR": (b"data: a\n\ndata: b\r", [b"a", b"b"]),
    "nothing": (b"", []),
    "an incomplete mark": (b"\xef\xbb", []),
}


def decode(blocks: list[bytes]) -> list[bytes]:
    decoder = SseDecoder()
    return [payload for block in blocks for payload in decoder.feed(block)] + decoder.end()


@pytest.mark.parametrize(("stream", "payloads"), STREAMS.values(), ids=STREAMS)
def test_every_pair_of_boundaries_gives_the_same_events(stream: bytes, payloads: list[bytes]) -> None:
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            assert decode([stream[:first], stream[first:second], stream[second:]]) == payloads, (first, second)


@pytest.mark.parametrize(("stream", "payloads"), STREAMS.values(), ids=STREAMS)
def test_single_bytes_give_the_same_events(stream: bytes, payloads: list[bytes]) -> None:
    assert decode([stream[i : i + 1] for i in range(len(stream))]) == payloads


@given(st.lists(st.binary(max_size=12), max_size=6))
def test_arbitrary_bytes_decode_alike_complete_and_in_pieces(blocks: list[bytes]) -> None:
    assert decode(blocks) == decode([b"".join(blocks)])


def test_an_event_is_returned_with_its_blank_line() -> None:
    for blank_line in (b"\n\n", b"\r\n\r\n", b"\r\r"):
        assert SseDecoder().feed(b"data: a" + blank_line) == [b"a"]


def test_an_endless_event_is_refused() -> None:
    decoder = SseDecoder(max_event_bytes=100)
    with pytest.raises(UpstreamFailed, match="more than 100 bytes"):
        for _ in range(30):
            decoder.feed(b"data: 1234\n")
    with pytest.raises(UpstreamFailed, match="more than 100 bytes"):
        SseDecoder(max_event_bytes=100).feed(b"x" * 101)


def test_bytes_before_each_event_are_counted_separately() -> None:
    decoder = SseDecoder()
    for _ in range(30):
        assert decoder.feed(b": " + b"x" * 100_000 + b"\ndata: a\n\n") == [b"a"]


@pytest.mark.parametrize("line", [b": hi\n", b"\n: \n\n", b"event: x\n", b"\n", b"unknown\n", b": hi\r\n"])
def test_bytes_without_an_event_are_limited(line: bytes) -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\n\n" + line) == [b"a"]
    with pytest.raises(UpstreamFailed, match="more than 1048576 bytes without an event"):
        for _ in range(3_000_000 // len(line)):
            decoder.feed(line)


def test_an_event_of_many_lines_is_refused() -> None:
    decoder = SseDecoder()
    with pytest.raises(UpstreamFailed, match="more than 100000 lines"):
        for _ in range(1_000):
            decoder.feed(b"data: x\n" * 8_000)
    within_limit = SseDecoder().feed(b"data: x\n" * 90_000 + b"\n")
    assert [len(payload) for payload in within_limit] == [2 * 90_000 - 1]


def test_blank_lines_take_little_time() -> None:
    decoder, block = SseDecoder(), b"data: a\n" + b"\n" * 60_000
    limit_cpu_time(1, lambda: [decoder.feed(block) for _ in range(500)])  # line by line, it takes 4 s


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    def feed() -> None:
        decoder, piece = SseDecoder(), b"x" * 500
        decoder.feed(b"data: ")
        for _ in range(40_000):
            decoder.feed(piece)
        assert len(decoder.feed(b"\n\n")[0]) == 20_000_000

    limit_cpu_time(1, feed)  # 20 MB; joining again for every piece would take half a minute
