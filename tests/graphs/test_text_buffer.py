"""A text in pieces equals the joined text, and takes little more memory."""

import tracemalloc

import pytest

from graphs.machine.text_buffer import TextBuffer


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
def test_text_and_length_are_those_of_all_pieces(count: int) -> None:
    text, pieces = TextBuffer(), [f"{number} é" for number in range(count)]
    for start in range(0, count, 7):
        text.extend(pieces[start : start + 7])
    assert (str(text), text.chars, bool(text)) == ("".join(pieces), len("".join(pieces)), bool(pieces))


def test_an_empty_piece_counts_as_a_piece() -> None:
    text = TextBuffer()
    text.extend([""])
    assert text


def test_a_token_takes_a_few_bytes() -> None:
    text = TextBuffer()
    tracemalloc.start()
    for number in range(50_000):
        text.extend([f"{number:05}"])
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 10 * 50_000
