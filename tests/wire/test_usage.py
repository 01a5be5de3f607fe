"""The usage in OpenAI's shape: buckets of UTC days, groups, filters and pages."""

from typing import Any

import pytest

from store.ports import DAY_S, UsageRow
from wire.errors import InvalidRequest
from wire.usage import UsageQuery, usage_page

DAY = 20_000 * DAY_S
NOW = DAY + 2 * DAY_S + 5
ROWS = [
    UsageRow(DAY, "ann", "m", "run", "th-1", 1, 10, 4, 5),
    UsageRow(DAY, "ann", "n", "chat", "", 2, 20, 0, 6),
    UsageRow(DAY, "bob", "m", "run", "", 3, 30, 0, 7),
    UsageRow(DAY + 2 * DAY_S, "bob", "m", "run", "", 4, 40, 0, 8),
]


def page(**query: Any) -> Any:
    asked = UsageQuery(**{"start_time": DAY, **query})
    return usage_page(asked, asked.days(NOW), ROWS)


def test_each_day_is_a_bucket_even_without_usage() -> None:
    found = page(start_time=DAY + 100)
    assert [(one["start_time"], one["end_time"], len(one["results"])) for one in found["data"]] == [
        (DAY, DAY + DAY_S, 1),
        (DAY + DAY_S, DAY + 2 * DAY_S, 0),
        (DAY + 2 * DAY_S, DAY + 3 * DAY_S, 1),
    ]
    (total,) = found["data"][0]["results"]
    assert (total["input_tokens"], total["input_cached_tokens"], total["output_tokens"]) == (60, 4, 18)
    assert total["num_model_requests"] == 6
    assert {total[name] for name in ("project_id", "user_id", "api_key_id", "model", "batch")} == {None}
    assert (found["has_more"], found["next_page"]) == (False, None)


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        (["project_id"], {("ann", None, None, None), ("bob", None, None, None)}),
        (["user_id", "model"], {(None, "ann", None, "m"), (None, "ann", None, "n"), (None, "bob", None, "m")}),
        (["api_key_id"], {(None, None, "th-1", None), (None, None, None, None)}),
        (["batch"], {(None, None, None, None)}),
    ],
)
def test_groups_name_what_they_are_grouped_by(group_by: list[str], groups: set[Any]) -> None:
    results = page(group_by=group_by)["data"][0]["results"]
    names = ("project_id", "user_id", "api_key_id", "model")
    assert {tuple(one[name] for name in names) for one in results} == groups
    assert sum(one["input_tokens"] for one in results) == 60


@pytest.mark.parametrize(
    ("filters", "tokens"),
    [
        ({"models": ["n", "x"]}, 20),
        ({"project_ids": ["bob"]}, 30),
        ({"user_ids": ["ann"], "models": ["m"]}, 10),
        ({"api_key_ids": ["th-1"]}, 10),
        ({"batch": True}, 0),
        ({"batch": False}, 60),
    ],
)
def test_filters_select_usage(filters: dict[str, Any], tokens: int) -> None:
    results = page(**filters)["data"][0]["results"]
    assert sum(one["input_tokens"] for one in results) == tokens


def test_pages_continue_where_the_last_one_ended() -> None:
    starts, cursor = [], None
    for more in (True, True, False):
        found = page(limit=1, page=cursor)
        starts += [one["start_time"] for one in found["data"]]
        assert found["has_more"] is more
        cursor = found["next_page"]
    assert starts == [DAY, DAY + DAY_S, DAY + 2 * DAY_S]


def test_the_end_is_exclusive() -> None:
    assert [one["start_time"] for one in page(end_time=DAY + DAY_S)["data"]] == [DAY]
    assert len(page(end_time=DAY + DAY_S + 1)["data"]) == 2


def test_a_start_in_the_future_has_no_buckets() -> None:
    assert page(start_time=NOW + 10 * DAY_S) == {"object": "page", "data": [], "has_more": False, "next_page": None}


@pytest.mark.parametrize("query", [{"end_time": DAY}, {"page": "page_1"}, {"page": "x"}, {"page": f"page_{'9' * 40}"}])
def test_times_and_pages_that_do_not_exist_are_refused(query: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        page(**query)
