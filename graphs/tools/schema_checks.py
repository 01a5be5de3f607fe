"""Refuses schemas that are too costly to check calls or answers against, when an assistant or a run is created."""

from collections.abc import Iterator, Sequence

from chains.calls.checks import find_uncheckable
from wire.errors import BudgetExceeded, InvalidRequest, Unavailable
from wire.json import Json, JsonObject

__all__ = ["check_schemas"]

_HINT = "Make it smaller, or inline its references"


async def check_schemas(tools: Sequence[JsonObject], response_format: Json = None) -> None:
    """Check the schemas of functions, and of a response format.

    Raises:
        InvalidRequest: a schema is too large, has endless references, or takes too much work for one check.
        Unavailable: the schemas could not be checked now.
    """
    named = [*_functions(tools), *_formats(response_format)]
    try:
        found = await find_uncheckable([schema for _, _, schema in named])
    except BudgetExceeded as error:
        message = f"The schemas could not be checked now: {error.message} Try again in a moment."
        raise Unavailable(message, headers={"Retry-After": "5"}) from None
    if found is None:
        return
    index, why = found
    if index is None:  # several schemas that are too much work together
        raise InvalidRequest(f"The schemas of this request {why}. {_HINT}.", param="tools", code="invalid_value")
    what, param, _ = named[index]
    raise InvalidRequest(f"Invalid schema for {what}: it {why}. {_HINT}.", param=param, code="invalid_value")


def _functions(tools: Sequence[JsonObject]) -> Iterator[tuple[str, str, Json]]:
    for index, tool in enumerate(tools):
        if tool["type"] == "function":
            function = tool["function"]
            yield f"function '{function['name']}'", f"tools[{index}].function.parameters", function.get("parameters")


def _formats(response_format: Json) -> Iterator[tuple[str, str, Json]]:
    if isinstance(response_format, dict) and isinstance(described := response_format.get("json_schema"), dict):
        param = "response_format.json_schema.schema"
        yield f"response_format '{described.get('name')}'", param, described.get("schema")
