"""The usage of all owners, as OpenAI's organization endpoints show it. It requires a key with the scope `admin`."""

import time
from typing import Annotated, Final

from fastapi import Query, Request, Response
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from api.depends import InjectedDeps
from api.json_response import json_response
from api.routers import api_router
from wire.usage import UsagePage, UsageQuery, usage_page
from wire.validation import explain

__all__ = ["router"]

router = api_router("organization")

_LISTS: Final = tuple(name for name, field in UsageQuery.model_fields.items() if (field.alias or "").endswith("[]"))


@router.get("/organization/usage/completions", response_model=UsagePage)
async def list_completions_usage(
    query: Annotated[UsageQuery, Query()], request: Request, deps: InjectedDeps
) -> Response:
    """List the usage of runs and chat completions by UTC day. `project_id` and `user_id` are the owner."""
    query = _with_bare_lists(query, request.query_params)
    days = query.days(int(time.time()))
    rows = await deps.usage.usage(days.starts[0], days.next_start) if days.starts else []
    return json_response(usage_page(query, days, rows))


def _with_bare_lists(query: UsageQuery, given: QueryParams) -> UsageQuery:
    """Return the query with the lists that a client wrote without brackets. Raises InvalidRequest."""
    bare = {name: given.getlist(name) for name in _LISTS if name in given}
    if not bare:
        return query
    try:
        return UsageQuery.model_validate({**query.model_dump(), **bare})
    except ValidationError as error:
        raise explain([{**each, "loc": ("query", *each["loc"])} for each in error.errors()]) from None
