"""Lists the errors that pydantic finds in a request, up to a limit. Pure.

One error is enough for a refusal, but pydantic lists all of them, at several microseconds each, and no other thread of
the server runs meanwhile. A request with more than `MAX_ERRORS` is therefore represented by its first ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from wire.json import Json
from wire.paths import find_container

__all__ = ["MAX_ERRORS", "ValidationErrors", "first_error", "list_errors", "validation_errors"]

MAX_ERRORS: Final = 10_000
"""The maximum number of errors listed: about 50 ms of work."""

_WIDTHS: Final = (8, 128)
"""How many elements of each array and object are examined for the first errors, tried in this order."""


@dataclass(frozen=True, slots=True)
class ValidationErrors:
    """Pydantic's errors, without links. If `complete` is false, there are more of them."""

    errors: Sequence[ErrorDetails] = ()
    complete: bool = True


def validation_errors(model: type[BaseModel], data: Json) -> ValidationErrors:
    """Validate the data and return its errors."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        return list_errors(model, data, error)
    return ValidationErrors()


def list_errors(
    model: type[BaseModel], data: Json, error: ValidationError, maximum: int = MAX_ERRORS
) -> ValidationErrors:
    """Return the errors of a validation, or only some of the first ones if there are more than `maximum`."""
    if error.error_count() <= maximum:
        return ValidationErrors(error.errors(include_url=False))
    for width in _WIDTHS:
        try:
            model.model_validate(_narrowed(data, width))
        except ValidationError as first:
            if first.error_count() <= MAX_ERRORS:
                found = first.errors(include_url=False)
                return ValidationErrors([{**each, "input": _input(data, each)} for each in found], complete=False)
    return ValidationErrors(error.errors(include_url=False), complete=False)


def first_error(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """Return the error to report: the first one, but an unknown parameter outranks a missing one."""
    return min(errors, key=lambda each: each["type"] == "missing")


def _narrowed(value: Json, width: int) -> Json:
    """Return a copy in which each array and object ends after its first `width` elements."""
    if isinstance(value, list):
        return [_narrowed(each, width) for each in value[:width]]
    if isinstance(value, dict):
        return {name: _narrowed(inner, width) for name, inner in list(value.items())[:width]}
    return value


def _input(data: Json, error: ErrorDetails) -> Json:
    """Return the invalid value as it was sent, because messages can state its length."""
    place = find_container([data], (0, *error["loc"]))
    return error["input"] if place is None or error["type"] != "too_long" else place[0][place[1]]
