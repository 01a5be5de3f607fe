"""Whether a call's arguments are what the function's JSON Schema asks for. Pure, and bounded.

Laws: a schema is its author's, so nothing of it may hang or break the server: patterns are never tried (Python's `re`
can be made to search for ever), references lead nowhere outside the schema, and a check that takes too many steps is
given up. What cannot be checked passes: the client's own check has the last word.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import UnknownType
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

__all__ = ["MAX_ARGUMENTS", "find_problems", "parse_arguments"]

MAX_ARGUMENTS: Final = 1_048_576  # characters
_MAX_STEPS: Final = 20_000  # keywords tried in one check, some 50 ms
_MAX_NESTING: Final = 200
_MAX_TOLD: Final = 8

_UNTRIED: Final = ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems", "format")
_MALFORMED: Final = (UnknownType, Unresolvable, TypeError, AttributeError, KeyError, ValueError, ArithmeticError)


class _TooCostly(Exception):
    pass


class _Steps:
    """Counts what a check costs; one for the process, as checks never wait in between."""

    left = 0

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooCostly


_steps = _Steps()


def _counted(keyword: str, check: Any) -> Any:
    def run(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        steps = 1 + (len(value) if isinstance(value, list) else 0)
        if keyword == "uniqueItems" and isinstance(instance, list):
            steps += len(instance) ** 2 // 8
        _steps.spend(steps)
        if keyword == "additionalProperties" and "patternProperties" in schema:
            return  # it would try the patterns
        yield from check(validator, value, instance, schema) or ()

    return run


_counting: dict[str, Any] = {
    name: None if name in _UNTRIED else _counted(name, check) for name, check in Draft202012Validator.VALIDATORS.items()
}
_Validator: Any = extend(Draft202012Validator, _counting)  # type: ignore[no-untyped-call]


def find_problems(schema: Any, value: Any) -> list[str]:
    """Return what is wrong with a value, each as `place`: reason; empty when nothing is, or nobody can say."""
    if not isinstance(schema, dict):
        return []
    if _nests(value):
        return ["they nest too deeply"]
    _steps.left = _MAX_STEPS
    try:
        found = sorted(_Validator(schema, registry=Registry()).iter_errors(value), key=lambda error: error.json_path)
    except (_TooCostly, RecursionError, *_MALFORMED):
        return []
    return [f"{_place(error)}: {_short(error.message)}" for error in found[:_MAX_TOLD]]


def parse_arguments(text: str) -> tuple[dict[str, Any] | None, str]:
    """Return the arguments as an object, or None and why they are none. Nothing, and `null`, are an empty object."""
    if len(text) > MAX_ARGUMENTS:
        return None, f"they have {len(text)} characters; at most {MAX_ARGUMENTS} are allowed"
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        return None, f"they are not JSON: {_short(str(error))}"
    if value is None:
        return {}, ""
    return (value, "") if isinstance(value, dict) else (None, "they are not a JSON object")


def _nests(value: Any) -> bool:
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


def _place(error: Any) -> str:
    return "`" + error.json_path.removeprefix("$").removeprefix(".") + "`" if error.absolute_path else "arguments"


def _short(message: str) -> str:
    return message if len(message) <= 200 else message[:100] + " … " + message[-90:]
