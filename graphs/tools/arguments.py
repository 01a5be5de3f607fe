"""A model's arguments for an operation: read, completed with defaults, checked. What is wrong becomes words for it."""

import json
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from graphs.tools.operations import Operation
from wire.errors import ThreadholdError

__all__ = ["BadArguments", "read_arguments"]

MAX_ARGUMENTS = 1_048_576  # characters
_MAX_TOLD = 8

# Patterns are told to the model but not tried: Python's `re` can be made to search for ever, with the GIL held.
_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"pattern": None, "patternProperties": None, "unevaluatedProperties": None}
)


class BadArguments(ThreadholdError):
    """The model's arguments cannot be used; the message is for the model."""


def read_arguments(operation: Operation, text: str) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments, required ones that were left out at their schema's `default`, and the names not known.

    Raises:
        BadArguments: not a JSON object, or not what the operation's schema asks for.
    """
    arguments = _parse(text)
    properties = operation.parameters["properties"]
    extra = operation.body is not None and operation.body.extra
    unknown = [] if extra else [name for name in arguments if name not in properties]
    arguments = {name: value for name, value in arguments.items() if extra or name in properties}
    for field in operation.fields:
        _fill(arguments, field.argument, field.schema, needed=field.required)
    if operation.body is not None:
        _fill_body(operation, arguments)
    try:
        errors = sorted(_Validator(operation.parameters).iter_errors(arguments), key=lambda error: error.json_path)
    except RecursionError:
        raise BadArguments("they nest too deeply") from None
    if errors:
        raise BadArguments("; ".join(f"{_place(error)}: {_short(error.message)}" for error in errors[:_MAX_TOLD]))
    return arguments, unknown


def _parse(text: str) -> dict[str, Any]:
    if len(text) > MAX_ARGUMENTS:
        raise BadArguments(f"they have {len(text)} characters; at most {MAX_ARGUMENTS} are allowed")
    try:
        arguments = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise BadArguments(f"they are not JSON: {_short(str(error))}") from None
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise BadArguments("they are not a JSON object")
    return arguments


def _fill(arguments: dict[str, Any], name: str, schema: dict[str, Any], *, needed: bool) -> None:
    if needed and name not in arguments and "default" in schema:
        arguments[name] = schema["default"]


def _fill_body(operation: Operation, arguments: dict[str, Any]) -> None:
    body = operation.body
    assert body is not None
    parameters = {field.argument for field in operation.fields}
    if not body.required and not (arguments.keys() - parameters):
        return
    for field in body.fields:
        _fill(arguments, field.argument, field.schema, needed=field.required)
        if field.required and field.argument not in arguments:
            raise BadArguments(f"`{field.argument}` is missing")


def _place(error: Any) -> str:
    return "`" + error.json_path.removeprefix("$").removeprefix(".") + "`" if error.absolute_path else "arguments"


def _short(message: str) -> str:
    return message if len(message) <= 200 else message[:100] + " … " + message[-90:]
