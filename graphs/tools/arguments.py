"""Parses a model's arguments for an operation, fills in defaults and checks them. Errors become text for the model."""

from typing import Final

from chains.calls.arguments import parse_arguments
from chains.calls.checks import check_arguments
from fairness.fair_limits import REQUESTS
from graphs.tools.operations import Operation
from telemetry.context import current_owner
from wire.errors import BudgetExceeded, ThreadholdError
from wire.json import JsonObject

__all__ = ["BadArguments", "read_arguments"]

_MAX_MESSAGE: Final = 4_000


class BadArguments(ThreadholdError):
    """The model's arguments cannot be used; the message is for the model, and at most 4,000 characters long."""

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…")


async def read_arguments(operation: Operation, text: str) -> tuple[JsonObject, list[str]]:
    """Return the arguments, with the schema's `default` for missing required ones, and the names that are unknown.

    Raises:
        BadArguments: not a JSON object, invalid by the operation's schema, or too much work to check.
    """
    arguments, unknown = await REQUESTS.run(current_owner(), _read, operation, text)
    try:
        problems = await check_arguments(operation.parameters, arguments)
    except BudgetExceeded as error:
        raise BadArguments(f"they could not be checked against its schema: {error.clause}") from None
    if problems:
        raise BadArguments("; ".join(problems))
    return arguments, unknown


def _read(operation: Operation, text: str) -> tuple[JsonObject, list[str]]:
    parsed, problem = parse_arguments(text)
    if parsed is None:
        raise BadArguments(problem)
    properties = operation.parameters["properties"]
    extra = operation.body is not None and operation.body.extra
    unknown = [] if extra else [name for name in parsed if name not in properties]
    arguments = {name: value for name, value in parsed.items() if extra or name in properties}
    for field in operation.fields:
        _fill(arguments, field.argument, field.schema, needed=field.required)
    if operation.body is not None:
        _fill_body(operation, arguments)
    return arguments, unknown


def _fill(arguments: JsonObject, name: str, schema: JsonObject, *, needed: bool) -> None:
    if needed and name not in arguments and "default" in schema:
        arguments[name] = schema["default"]


def _fill_body(operation: Operation, arguments: JsonObject) -> None:
    body = operation.body
    assert body is not None
    parameters = {field.argument for field in operation.fields}
    if not body.required and not (arguments.keys() - parameters):
        return
    for field in body.fields:
        _fill(arguments, field.argument, field.schema, needed=field.required)
        if field.required and field.argument not in arguments:
            raise BadArguments(f"`{field.argument}` is missing")
