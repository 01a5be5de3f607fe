"""Tokens that were read ahead for a request do not count as cached, and texts are never changed."""

from collections.abc import AsyncIterator

import pytest

from chains.cached_tokens import subtract_cached, subtract_streamed

USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":894,"prompt_tokens_details":{"cached_tokens":%d}}}\n\n'
TEXT = b'data: {"choices":[{"delta":{"content":"\\"cached_tokens\\":768"}}]}\n\n'
END = b"data: [DONE]\n\n"


@pytest.mark.parametrize(("cached", "ahead", "left"), [(768, 768, 0), (768, 513, 255), (24, 768, 0), (768, 0, 768)])
@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
async def test_tokens_read_ahead_are_subtracted_at_any_block_size(
    cached: int, ahead: int, left: int, size: int
) -> None:
    stream = TEXT + USAGE % cached + END

    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, len(stream), size):
            yield stream[start : start + size]

    assert b"".join([block async for block in subtract_streamed(blocks(), ahead)]) == TEXT + USAGE % left + END


async def test_an_event_is_not_held_back() -> None:
    async def blocks() -> AsyncIterator[bytes]:
        yield TEXT
        raise AssertionError("the first event must come before the next block")

    async for block in subtract_streamed(blocks(), 5):
        assert block == TEXT
        break


def test_an_answer_without_a_count_is_unchanged() -> None:
    for answer in (b'{"usage":{}}', b'{"content":"\\"cached_tokens\\":9"}', b'{"cached_tokens":null}', b""):
        assert subtract_cached(answer, 5) == answer
