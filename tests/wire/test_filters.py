"""The size of a search's filters."""

from typing import Any

import pytest

from wire.errors import InvalidRequest
from wire.search import VectorStoreSearch
from wire.validation import parse

EMPTY = {"type": "and", "filters": []}
NOWHERE = {"type": "in", "key": "a", "value": []}


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "or", "filters": [{"type": "in", "key": "a", "value": ["x"] * 501}] * 2},
        {"type": "and", "filters": [{"type": "or", "filters": [{"type": "eq", "key": "a", "value": 1}] * 51}] * 20},
        {"type": "or", "filters": [*[{"type": "or", "filters": [{"type": "and", "filters": []}] * 100}] * 10, EMPTY]},
        {"type": "or", "filters": [*[{"type": "or", "filters": [NOWHERE] * 100}] * 10, NOWHERE]},
    ],
    ids=["in lists", "nested", "empty filters", "empty lists"],
)
def test_a_filter_has_a_bounded_number_of_values(wanted: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"'filters'.*at most 1000 are allowed") as raised:
        parse(VectorStoreSearch, {"query": "q", "filters": wanted})
    assert raised.value.param == "filters"
    wanted["filters"].pop()
    assert parse(VectorStoreSearch, {"query": "q", "filters": wanted}).filters is not None
