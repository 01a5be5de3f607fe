"""Valid compressed answers are read completely, and hostile ones within limits."""

import gzip
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest

from graphs.tools.decompression import Decompressor

TEXT = b"The sky is blue. " * 500
LIMIT = 64 * 1024


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def blocks(data: bytes, size: int) -> Iterable[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def unpacked(decompressor: Decompressor, data: bytes, size: int) -> bytes:
    found = b""
    for block in blocks(data, size):
        found += decompressor.decompress(block, LIMIT + 1 - len(found))
        if decompressor.ended or decompressor.exceeded or len(found) > LIMIT:
            break
    return found


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("coding", "sent"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        ("gzip", gzip.compress(b"") + gzip.compress(TEXT) + gzip.compress(b"")),
        ("gzip", gzip.compress(TEXT) + b"\0" * 5000),
        ("gzip", gzip.compress(TEXT) + b"garbage"),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT, level=0) + b"garbage"),
        ("deflate", raw(TEXT)),
    ],
    ids=["gzip", "two members", "empty members", "padding", "garbage", "zlib", "zlib and garbage", "bare deflate"],
)
def test_packed_data_is_read_completely_at_every_block_size(coding: str, sent: bytes, size: int) -> None:
    decompressor = Decompressor(coding, LIMIT)
    assert unpacked(decompressor, sent, size) == TEXT
    assert decompressor.whole
    assert not decompressor.exceeded


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_truncated_data_is_not_complete(coding: str) -> None:
    sent = (gzip.compress(TEXT) if coding == "gzip" else zlib.compress(TEXT))[:-5]
    decompressor = Decompressor(coding, LIMIT)
    assert TEXT.startswith(unpacked(decompressor, sent, 100))
    assert not decompressor.whole


@pytest.mark.parametrize(
    ("coding", "sent"),
    [
        ("gzip", gzip.compress(b"x") + b"y" * 20_000_000),
        ("gzip", gzip.compress(b"") * 500_000),
        ("gzip", gzip.compress(b"x" * 50_000_000) * 3),
        ("deflate", b"\x78\x01" + b"\x00\x00\x00\xff\xff" * 4_000_000),
        ("deflate", b"\x00\x00\x00\xff\xff" * 4_000_000),
        ("deflate", zlib.compress(b"x") + b"y" * 20_000_000),
    ],
    ids=["bytes behind the end", "empty members", "a bomb", "empty blocks", "bare empty blocks", "behind zlib's end"],
)
def test_data_that_unpacks_to_nothing_is_not_kept_or_read(coding: str, sent: bytes) -> None:
    tracemalloc.start()
    try:
        decompressor = Decompressor(coding, LIMIT)
        found = unpacked(decompressor, sent, 65_536)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert decompressor.ended or decompressor.exceeded or len(found) > LIMIT
    assert len(found) <= LIMIT + 1
