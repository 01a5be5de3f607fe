"""Searches of a vector store: the request, and the page of results."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, Discriminator, Field, StringConstraints, Tag

from wire.filters import Filter, count_values
from wire.json import JsonObject
from wire.validation import Request, invalid_value

__all__ = ["ResultsPage", "VectorStoreSearch", "results_page"]

Query = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


# The alternatives are distinguished first, so that an error names the path within the intended one.
Queries = Annotated[
    Annotated[Query, Tag("~text")] | Annotated[list[Query], Field(min_length=1, max_length=8), Tag("~several")],
    Discriminator(lambda value: "~several" if isinstance(value, list) else "~text"),
]


_MAX_FILTER_VALUES: Final = 1_000
"""The maximum number of values that each file of a store is compared with."""


def _check_size(filters: Filter | None) -> Filter | None:
    if filters is not None and (count := count_values(filters)) > _MAX_FILTER_VALUES:
        raise invalid_value(f"it compares with {count} values, and at most {_MAX_FILTER_VALUES} are allowed")
    return filters


class SearchRanking(Request):
    """How results are ranked. Every ranker's name stands for the same fusion of text and vector search."""

    ranker: Literal["none", "auto", "default-2024-11-15", "default_2024_08_21"] | None = None
    score_threshold: float | None = Field(None, ge=0.0, le=1.0)


class VectorStoreSearch(Request):
    """POST /vector_stores/{vector_store_id}/search. `rewrite_query` is accepted and ignored."""

    query: Queries
    max_num_results: int = Field(10, ge=1, le=50)
    rewrite_query: bool | None = None
    filters: Annotated[Filter | None, AfterValidator(_check_size)] = None
    ranking_options: SearchRanking | None = None

    @property
    def queries(self) -> list[str]:
        """The queries, always as a list."""
        return [self.query] if isinstance(self.query, str) else list(self.query)


class ResultsPage(BaseModel):
    """The object `vector_store.search_results.page`."""

    object: Literal["vector_store.search_results.page"]
    search_query: list[str]
    data: list[JsonObject]
    has_more: bool
    next_page: str | None


def results_page(queries: Sequence[str], results: Sequence[JsonObject]) -> JsonObject:
    """Make the wire object, with all results on one page."""
    return {
        "object": "vector_store.search_results.page",
        "search_query": list(queries),
        "data": list(results),
        "has_more": False,
        "next_page": None,
    }
