"""Checks whether a call's arguments match the function's JSON Schema. Pure, and bounded.

Invariants: clients write the schemas, so no schema may hang or break the server. What cannot be checked passes: the
client's own check decides.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

__all__ = ["MAX_ARGUMENTS", "find_problems", "nests", "parse_arguments", "portable", "portable_arguments"]

MAX_ARGUMENTS: Final = 1_048_576  # characters
_MAX_NESTING: Final = 200
_MIN_INTEGER: Final = -(2**63)
_MAX_INTEGER: Final = 2**64 - 1
_MAX_LISTED: Final = 8
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")  # an escaped surrogate
_MAX_PRUNINGS: Final = 4  # later alternatives reveal their nulls only after earlier nulls are removed


def find_problems(schema: object, value: object, *, nulls_are_absent: bool = False) -> list[str]:
    """Return a value's problems, each with its path; empty if there are none or the check is impossible.

    With `nulls_are_absent`, a property that is null although its schema does not allow null counts as absent.
    """
    if not isinstance(schema, dict):
        return []
    if nests(value):
        return ["they nest too deeply"]
    from chains.calls.schemas import find_errors  # `modes` has loaded it by now

    errors = find_errors(schema, value)
    for _ in range(_MAX_PRUNINGS if nulls_are_absent else 0):
        paths = {tuple(error.absolute_path) for error in _leaves(errors) if error.instance is None}
        pruned = _without(value, {path for path in paths if path and isinstance(path[-1], str)})
        if pruned == value:
            break
        value, errors = pruned, find_errors(schema, pruned)
    return [f"{_path(error)}: {_short(error.message)}" for error in errors[:_MAX_LISTED]]


def parse_arguments(text: str) -> tuple[dict[str, object] | None, str]:
    """Return the arguments as an object, or None and the reason. Empty text and `null` give an empty object."""
    if len(text) > MAX_ARGUMENTS:
        return None, f"they have {len(text)} characters; at most {MAX_ARGUMENTS} are allowed"
    try:
        value = json.loads(text) if text.strip() else {}
        if _SURROGATE.search(text):
            # `json.loads` has joined complete pairs. A lone surrogate cannot be encoded as UTF-8.
            encoded = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
            value = json.loads(encoded.decode("utf-16", "replace"))
    except (ValueError, RecursionError) as error:
        return None, f"they are not JSON: {_short(str(error))}"
    if value is None:
        return {}, ""
    return (value, "") if isinstance(value, dict) else (None, "they are not a JSON object")


def portable_arguments(text: str) -> dict[str, object]:
    """Return arguments that a run's history can store (see `portable`); empty if they are not a JSON object."""
    try:
        value = portable(parse_arguments(text)[0] or {})
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def portable(value: object, depth: int = 1) -> object:
    """Return a JSON value that checkpoints and strict JSON writers accept: numbers of at most 64 bits, null for NaN and
    infinity, U+FFFD for a lone surrogate.

    Raises ValueError if it is nested too deeply.
    """
    if depth > _MAX_NESTING + 1:
        raise ValueError("they nest too deeply")
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if _MIN_INTEGER <= value <= _MAX_INTEGER else portable(float(str(value)))
    if isinstance(value, list):
        return [portable(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {portable(name): portable(each, depth + 1) for name, each in value.items()}
    return value


def _leaves(errors: "Iterable[ValidationError]") -> "Iterator[ValidationError]":
    """Yield the errors, and those of the alternatives (`anyOf`) within them."""
    for error in errors:
        yield error
        yield from _leaves(error.context or ())


def _without(value: object, paths: set[tuple[str | int, ...]], path: tuple[str | int, ...] = ()) -> object:
    """Return a value without the properties at these paths."""
    if isinstance(value, dict):
        return {
            name: _without(each, paths, (*path, name)) for name, each in value.items() if (*path, name) not in paths
        }
    if isinstance(value, list):
        return [_without(each, paths, (*path, number)) for number, each in enumerate(value)]
    return value


def nests(value: object) -> bool:
    """Return whether a value is nested too deeply to be checked."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _MAX_NESTING:
            return True
        level = [
            each
            for one in level
            if isinstance(one, dict | list)
            for each in (one.values() if isinstance(one, dict) else one)
            if isinstance(each, dict | list)
        ]
    return False


def _path(error: "ValidationError") -> str:
    return "`" + error.json_path.removeprefix("$").removeprefix(".") + "`" if error.absolute_path else "arguments"


def _short(message: str) -> str:
    return message if len(message) <= 200 else message[:100] + " … " + message[-90:]
