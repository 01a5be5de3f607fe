"""The usage of the organization in OpenAI's shape: the query, and pages of buckets. Pure.

OpenAI's organization has projects and users. Here, an owner is both: objects belong to an owner as they belong to a
project there, and its keys act for it as they do for a user. So `project_id` and `user_id` are the owner. `api_key_id`
is the id of a stored key. Usage is kept by day, so a bucket is a UTC day.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from wire.errors import InvalidRequest
from wire.paths import truncated

__all__ = ["CompletionsUsage", "UsageBucket", "UsageDays", "UsagePage", "UsageQuery", "UsedOnDay", "usage_page"]

_DAY_S: Final = 86_400
_MAX_TIME: Final = 253_402_300_799  # the last second of the year 9999
_MAX_IDS: Final = 100

_GroupBy = Literal["project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source"]


class UsageQuery(BaseModel):
    """Query parameters of the usage. SDKs write lists as `group_by[]`."""

    model_config = ConfigDict(populate_by_name=True)

    start_time: int = Field(ge=0, le=_MAX_TIME)
    end_time: int | None = Field(None, ge=0, le=_MAX_TIME)
    bucket_width: Literal["1d"] = "1d"
    group_by: list[_GroupBy] = Field([], alias="group_by[]", max_length=_MAX_IDS)
    project_ids: list[str] = Field([], alias="project_ids[]", max_length=_MAX_IDS)
    user_ids: list[str] = Field([], alias="user_ids[]", max_length=_MAX_IDS)
    api_key_ids: list[str] = Field([], alias="api_key_ids[]", max_length=_MAX_IDS)
    models: list[str] = Field([], alias="models[]", max_length=_MAX_IDS)
    batch: bool | None = None
    limit: int = Field(7, ge=1, le=31)
    page: str | None = Field(None, max_length=64)

    def days(self, now: int) -> "UsageDays":
        """Return the days of the page. Raises InvalidRequest for an end before the start, or an unknown page."""
        end = now + 1 if self.end_time is None else self.end_time
        if self.end_time is not None and end <= self.start_time:
            raise InvalidRequest("`end_time` must be after `start_time`.", param="end_time", code="invalid_value")
        first = self.start_time - self.start_time % _DAY_S
        if self.page is not None:
            first = _start_of(self.page)
        starts = range(first, max(first, end), _DAY_S)
        return UsageDays(starts[: self.limit], has_more=len(starts) > self.limit)


class UsageDays:
    """The starts of a page's days, and whether more days follow."""

    def __init__(self, starts: Sequence[int], *, has_more: bool) -> None:
        self.starts = starts
        self.has_more = has_more

    @property
    def next_start(self) -> int:
        """The start of the day after the last one; 0 if there are no days."""
        return self.starts[-1] + _DAY_S if self.starts else 0


class CompletionsUsage(TypedDict):
    """The usage of a bucket, or of one group in it. What it is not grouped by is null."""

    object: Literal["organization.usage.completions.result"]
    input_tokens: int
    output_tokens: int
    input_cached_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    num_model_requests: int
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    model: str | None
    batch: bool | None
    service_tier: str | None


class UsageBucket(TypedDict):
    """One day."""

    object: Literal["bucket"]
    start_time: int
    end_time: int
    results: list[CompletionsUsage]


class UsagePage(TypedDict):
    """A page of buckets."""

    object: Literal["page"]
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None


class UsedOnDay(Protocol):
    """What this module reads of stored usage."""

    @property
    def day(self) -> int: ...
    @property
    def owner(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def key_id(self) -> str: ...
    @property
    def requests(self) -> int: ...
    @property
    def input_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...


def usage_page(query: UsageQuery, days: UsageDays, rows: Iterable[UsedOnDay]) -> UsagePage:
    """Build the page of these days; `rows` can contain other days."""
    by_day: dict[int, list[UsedOnDay]] = defaultdict(list)
    for row in rows:
        if _is_asked_for(query, row):
            by_day[row.day].append(row)
    buckets: list[UsageBucket] = [
        {"object": "bucket", "start_time": start, "end_time": start + _DAY_S, "results": _groups(query, by_day[start])}
        for start in days.starts
    ]
    next_page = f"page_{days.next_start}" if days.has_more else None
    return {"object": "page", "data": buckets, "has_more": days.has_more, "next_page": next_page}


def _is_asked_for(query: UsageQuery, row: UsedOnDay) -> bool:
    if query.batch:
        return False
    wanted = ((query.project_ids, row.owner), (query.user_ids, row.owner))
    more = ((query.api_key_ids, row.key_id), (query.models, row.model))
    return all(not values or value in values for values, value in (*wanted, *more))


def _groups(query: UsageQuery, rows: Iterable[UsedOnDay]) -> list[CompletionsUsage]:
    groups: dict[tuple[str | bool | None, ...], CompletionsUsage] = {}
    for row in rows:
        owner_of_project = row.owner if "project_id" in query.group_by else None
        owner_of_user = row.owner if "user_id" in query.group_by else None
        key = (row.key_id or None) if "api_key_id" in query.group_by else None
        model = row.model if "model" in query.group_by else None
        batch = False if "batch" in query.group_by else None
        group = groups.setdefault(
            (owner_of_project, owner_of_user, key, model),
            {
                "object": "organization.usage.completions.result",
                "input_tokens": 0,
                "output_tokens": 0,
                "input_cached_tokens": 0,
                "input_audio_tokens": 0,
                "output_audio_tokens": 0,
                "num_model_requests": 0,
                "project_id": owner_of_project,
                "user_id": owner_of_user,
                "api_key_id": key,
                "model": model,
                "batch": batch,
                "service_tier": None,
            },
        )
        group["input_tokens"] += row.input_tokens
        group["output_tokens"] += row.output_tokens
        group["input_cached_tokens"] += row.cached_tokens
        group["num_model_requests"] += row.requests
    return list(groups.values())


def _start_of(page: str) -> int:
    number = page.removeprefix("page_")
    if page.startswith("page_") and number.isascii() and number.isdecimal():
        start = int(number)
        if start <= _MAX_TIME and start % _DAY_S == 0:
            return start
    raise InvalidRequest(
        f"Invalid page '{truncated(page)}'. Use `next_page` of the previous page.", param="page", code="invalid_value"
    )
