"""Cuts work into blocks, so that owners can alternate between them."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

__all__ = ["split_into_blocks"]

T = TypeVar("T")


def split_into_blocks(
    items: Sequence[T], length: Callable[[T], int], *, max_items: int, max_length: int
) -> Iterator[Sequence[T]]:
    """Yield the items in order, in blocks of at most `max_items` items and a total length of at most `max_length`.

    An item that is longer than that is a block of its own.
    """
    start = total = 0
    for at, item in enumerate(items):
        if at > start and (at - start == max_items or total + length(item) > max_length):
            yield items[start:at]
            start, total = at, 0
        total += length(item)
    if items:
        yield items[start:]
