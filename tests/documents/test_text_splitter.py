"""Pieces of a text have exact offsets, are in order, lose nothing and keep to their size."""

import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.text_splitter import BYTES_PER_TOKEN, Chunk, split_text

texts = st.text(st.sampled_from("ab \n.é世🦉"), max_size=600)
sizes = st.integers(2, 40).flatmap(lambda maximum: st.tuples(st.just(maximum), st.integers(0, maximum // 2)))


def chunks(text: str, maximum: int, overlap: int) -> list[Chunk]:
    return list(split_text(text, max_tokens=maximum, overlap_tokens=overlap))


@given(texts, sizes)
def test_a_piece_is_exactly_the_text_between_its_offsets(text: str, size: tuple[int, int]) -> None:
    for chunk in chunks(text, *size):
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text.strip()
        assert len(chunk.text.encode()) <= size[0] * BYTES_PER_TOKEN


@given(texts, sizes)
def test_pieces_are_in_order_and_each_ends_after_the_previous(text: str, size: tuple[int, int]) -> None:
    found = chunks(text, *size)
    for one, next_one in pairwise(found):
        assert one.start < next_one.start
        assert one.end < next_one.end


@given(texts, sizes)
def test_only_white_space_is_in_no_piece(text: str, size: tuple[int, int]) -> None:
    covered = set[int]()
    for chunk in chunks(text, *size):
        covered.update(range(chunk.start, chunk.end))
    assert all(index in covered or text[index].isspace() for index in range(len(text)))


def test_neighbours_overlap_by_about_the_requested_size() -> None:
    text = " ".join(f"word{number}" for number in range(2000))
    found = chunks(text, 100, 50)
    shared = [one.end - next_one.start for one, next_one in pairwise(found)]
    assert all(150 <= characters <= 200 for characters in shared)
    assert all(not chunk.text.startswith("ord") for chunk in found)


def test_without_overlap_neighbours_share_nothing() -> None:
    found = chunks("one two three four " * 100, 100, 0)
    assert all(one.end <= next_one.start for one, next_one in pairwise(found))


@pytest.mark.parametrize("mark", ["\n\n", "\n", ". ", " "], ids=["paragraph", "line", "sentence", "word"])
def test_a_piece_ends_at_a_boundary_of_the_text(mark: str) -> None:
    text = mark.join(["x" * 150] * 20)
    assert all(set(chunk.text.replace(mark.strip(), "").split()) == {"x" * 150} for chunk in chunks(text, 100, 0))


def test_a_long_text_is_split_in_linear_time() -> None:
    assert len(chunks("x" * 5_000_000, 800, 400)) > 2000


@pytest.mark.parametrize("blank", [" ", "\n", "\u3000", " \u2003\n\t"], ids=["space", "line", "wide", "mixed"])
@pytest.mark.parametrize("count", [65_535, 65_536, 65_537, 200_000])
def test_white_space_of_any_length_is_skipped(blank: str, count: int) -> None:
    space = (blank * count)[:count]
    found = chunks(f"{space}x{space}y{space}", 800, 400)
    assert [(chunk.start, chunk.text) for chunk in found if chunk.text] == [(count, "x"), (2 * count + 1, "y")]


def test_white_space_is_not_skipped_one_by_one() -> None:
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    sys.setprofile(count)
    try:
        list(split_text(" " * 1_000_000 + "x", max_tokens=800, overlap_tokens=400))
    finally:
        sys.setprofile(None)
    assert steps < 500
