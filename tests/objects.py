"""Checks wire objects against their types, and has a value of every model option."""

from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from wire.model_options import OPTIONS
from wire.runs import RunCreate

__all__ = ["OPTION_VALUES", "OTHER_VALUES", "check", "typical"]


def check(kind: object, body: object) -> None:
    """Raise pydantic's ValidationError unless the body is an object of this TypedDict."""
    TypeAdapter(kind).validate_python(body)


def typical(model: type[BaseModel], name: str, number: int = 1) -> Any:
    """Return a value that a field of a request accepts and that is no default; `number` is 1 or 2."""
    schema = model.model_json_schema()["properties"][name]
    kind = schema.get("anyOf", [schema])[0]
    if "enum" in kind:
        return kind["enum"][-number]
    minimum, maximum = kind.get("minimum", 0), kind.get("maximum", 8)
    values = {
        "number": minimum + 0.2 * number * (maximum - minimum),
        "integer": minimum + 2 + number,
        "string": "x" * number,
    }
    return values[kind["type"]]


OPTION_VALUES: Final[dict[str, Any]] = {name: typical(RunCreate, name) for name in sorted(OPTIONS)}
"""Every option of model calls with a value."""

OTHER_VALUES: Final[dict[str, Any]] = {name: typical(RunCreate, name, 2) for name in sorted(OPTIONS)}
"""Every option of model calls with another value."""
