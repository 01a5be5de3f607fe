"""JSON Schema's validator, with a limit of steps and without what could hang: imported where a schema is checked.

Laws: patterns are never tried (Python's `re` can be made to search for ever), references lead nowhere outside the
schema, and a check that takes too many steps is given up, as is one of a schema that is none.
"""

from collections.abc import Iterator
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import UnknownType
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

__all__ = ["find_errors"]

_MAX_STEPS: Final = 20_000  # keywords tried in one check, some 50 ms

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


def find_errors(schema: dict[str, Any], value: Any) -> list[Any]:
    """Return jsonschema's errors by their places; none where nobody can say."""
    _steps.left = _MAX_STEPS
    try:
        return sorted(_Validator(schema, registry=Registry()).iter_errors(value), key=lambda error: error.json_path)
    except (_TooCostly, RecursionError, *_MALFORMED):
        return []
