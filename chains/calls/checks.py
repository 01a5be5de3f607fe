"""Checks schemas and a model's calls off the event loop: a child process does any work that may be slow."""

import logging
from collections.abc import Collection, Sequence

from chains.calls.arguments import find_problems, nests
from chains.calls.call_schemas import call_schema, parameters_of
from chains.calls.parser import Written, find_calls, is_quick, read_object
from chains.calls.schema_size import MAX_PLAIN, MAX_VALUES, find_excess, is_brief, is_long, is_small, plain_size
from chains.chat_types import FunctionTool, JsonSchema
from chains.schema_limits import BoundSchema
from chains.schema_weight import bound_schemas
from wire.errors import BudgetExceeded
from workers import workers

__all__ = ["bounded_call_schema", "bounded_schemas", "calls_in", "check_arguments", "find_uncheckable", "object_in"]

_log = logging.getLogger("threadhold.chains")


async def check_arguments(schema: object, value: object, *, nulls_are_absent: bool = False) -> list[str]:
    """Return the result of `find_problems`. Raises BudgetExceeded if the check exceeds its budget."""
    if isinstance(schema, dict) and is_long(value):
        raise BudgetExceeded(f"They have more than {MAX_VALUES} values.", why="size")
    if not isinstance(schema, dict) or is_small(schema, value) or nests(value):
        return find_problems(schema, value, nulls_are_absent=nulls_are_absent)
    if found := find_excess(schema):  # it was stored by a version without the limit
        raise BudgetExceeded(f"The schema {found}.", why="size")
    function = "chains.calls.arguments:find_problems"
    problems: list[str] = await workers().run(function, schema, value, nulls_are_absent=nulls_are_absent)
    return problems


async def find_uncheckable(schemas: Sequence[object]) -> tuple[int | None, str] | None:
    """Return the index of the first schema that cannot be used for a check, and the reason, as the predicate of a
    sentence about the schema.

    Return None if all can be used. The index is None if several together are too much work.

    Raises BudgetExceeded with the reason `late` only: the schemas could not be tried now.
    """
    tried: list[int] = []
    left = MAX_PLAIN
    for index, schema in enumerate(schemas):
        if not isinstance(schema, dict):
            continue
        if found := find_excess(schema):
            return index, found
        size = plain_size(schema, left)
        if size is None:
            tried.append(index)
            left = 0  # a child process is needed anyway, and walking the schema has a cost, too
        else:
            left -= size
    if not tried:
        return None
    try:
        judged = await workers().run("chains.calls.schema_trials:try_schemas", [schemas[index] for index in tried])
    except BudgetExceeded as error:
        if error.why == "late":
            raise
        why = f"cannot be checked: {error.clause}"
        return (tried[0] if len(tried) == 1 else None), why
    return None if judged is None else (tried[judged[0]], judged[1])


async def bounded_schemas(schemas: Sequence[object]) -> list[BoundSchema]:
    """Return the result of `bound_schemas`. Raises BudgetExceeded with the reason `late` only."""
    if is_brief(schemas):
        return bound_schemas(schemas)
    refused = [f"It {found}." if (found := find_excess(schema)) else "" for schema in schemas]
    left = [schema for schema, why in zip(schemas, refused, strict=True) if not why]
    try:
        bounded = iter(await workers().run("chains.schema_weight:bound_schemas", left))
    except BudgetExceeded as error:
        if error.why == "late":
            raise
        bounded = iter([{"refused": f"It cannot be checked: {error.clause}."}] * len(left))
    return [{"refused": why} if why else next(bounded) for why in refused]


async def bounded_call_schema(tool: FunctionTool, *, tight: bool = False) -> JsonSchema:
    """Return the result of `call_schema`. If that is too much work, its schema allows any object as arguments."""
    name, parameters = tool["function"]["name"], parameters_of(tool)
    if is_brief(parameters):
        return call_schema(tool, tight=tight)
    if not find_excess(parameters):
        reduced: FunctionTool = {"type": "function", "function": {"name": name, "parameters": parameters}}
        try:
            shape: JsonSchema = await workers().run("chains.calls.call_schemas:call_schema", reduced, tight=tight)
            return shape
        except BudgetExceeded as error:
            _log.warning("the schema of `%s` does not constrain its calls: %s", name, error)
    free: JsonSchema = {"type": "object", "additionalProperties": True}
    return call_schema({"type": "function", "function": {"name": name, "parameters": free}})


async def calls_in(text: str, offered: Collection[str], *, only: str | None = None) -> list[Written]:
    """Return the result of `find_calls`; empty if the text would take too much work to repair."""
    if is_quick(text):
        return find_calls(text, offered, only=only)
    try:
        found = await workers().run("chains.calls.parser:calls_as_pairs", text, list(offered), only)
    except BudgetExceeded as error:
        _log.warning("did not search a text of %d characters for calls: %s", len(text), error)
        return []
    return [Written(name, arguments) for name, arguments in found]


async def object_in(text: str) -> dict[str, object] | None:
    """Return the result of `read_object`; None if the text would take too much work to repair."""
    if is_quick(text):
        return read_object(text)
    try:
        found: dict[str, object] | None = await workers().run("chains.calls.parser:read_object", text)
    except BudgetExceeded as error:
        _log.warning("did not parse a text of %d characters as an object: %s", len(text), error)
        return None
    return found
