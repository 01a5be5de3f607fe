"""Requests for vector stores whose attributes apply to many files."""

from typing import Any

import pytest

from wire.errors import InvalidRequest
from wire.validation import parse
from wire.vector_stores import FileBatchCreate


def attributes(char: str) -> dict[str, str]:
    """Return the longest allowed attributes of that character."""
    return {f"{number:02}".ljust(64, char): char * 512 for number in range(16)}


@pytest.mark.parametrize(("count", "char"), [(500, "\U0001f600"), (2_000, "x")], ids=["as at OpenAI", "more files"])
def test_a_batch_can_give_all_its_files_long_attributes(count: int, char: str) -> None:
    given = {"file_ids": ["file-1"] * count, "attributes": attributes(char)}
    assert len(parse(FileBatchCreate, given).store_files()) == count


def test_attributes_times_files_are_limited() -> None:
    given: dict[str, Any] = {"file_ids": ["file-1"] * 2_000, "attributes": attributes("\U0001f600")}
    with pytest.raises(InvalidRequest, match="bytes of JSON; at most 20000000 are allowed"):
        parse(FileBatchCreate, given)
