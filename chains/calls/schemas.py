"""JSON Schema's validator with a limit of steps, and without keywords that could hang; imported by the first check.

`$schema` chooses the draft, which decides the meaning of `id` and of the siblings of `$ref`. All other keywords are
read in any draft's form (see `dialects`); an unknown `$schema` means draft 2020-12. Invariants: patterns are never
applied (Python's `re` can be made to search for ever). References cannot leave the schema. A check that takes too many
steps is given up. A keyword that makes no sense is ignored.
"""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Final, TypeAlias

from jsonschema import (
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft201909Validator,
    Draft202012Validator,
)
from jsonschema.exceptions import UnknownType, ValidationError
from jsonschema.validators import create
from referencing import Registry
from referencing.exceptions import Unresolvable

from chains.calls.dialects import is_nullable, modernize, named_draft
from chains.chat_types import JsonSchema

__all__ = ["DATA", "MAX_STEPS", "StepLimitExceeded", "find_errors", "try_errors"]

MAX_STEPS: Final = 50_000
"""Maximum keywords applied in one check. This limit stops endless expansion early. It counts calls, not work:
`chains.calls.schema_size` and the budget of the child process limit the work."""

DATA: Final = frozenset({"const", "enum", "default", "examples", "example"})
"""Keywords that hold values, not schemas."""

_IGNORED: Final = ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems", "format")
_MALFORMED: Final = (UnknownType, Unresolvable, TypeError, AttributeError, KeyError, ValueError, ArithmeticError)
_INVERTING: Final = ("not", "oneOf", "if", "contains")
"""Keywords that fail if a schema within them holds: a malformed schema within them proves nothing."""


Keyword: TypeAlias = Callable[[Any, object, object, Any], Iterator[ValidationError]]
"""Applies a keyword: takes the validator, the keyword's value, the instance and the node, and yields errors. jsonschema
makes validators at run time, and its type stubs describe neither them nor the nodes precisely."""


class StepLimitExceeded(Exception):
    """A check took too many steps."""


class _Check:
    """The steps left of a check, and whether a keyword was malformed. One per process, because checks never wait."""

    left = 0
    malformed = False

    def count_steps(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise StepLimitExceeded


_check = _Check()


def _guarded(keyword: str, check: Keyword) -> Keyword:
    def run(validator: Any, value: object, instance: object, schema: Any) -> Iterator[ValidationError]:
        steps = 1 + (len(value) if isinstance(value, list) else 0)
        if keyword == "uniqueItems" and isinstance(instance, list):
            steps += len(instance) ** 2 // 8
        _check.count_steps(steps)
        if instance is None and is_nullable(schema):
            return
        if keyword == "additionalProperties" and "patternProperties" in schema:
            return  # it would apply the patterns
        try:
            yield from check(validator, value, instance, modernize(schema)) or ()
        except _MALFORMED:
            _check.malformed = True

    def inverted(validator: Any, value: object, instance: object, schema: Any) -> Iterator[ValidationError]:
        before, _check.malformed = _check.malformed, False
        errors = list(run(validator, value, instance, schema))
        if not _check.malformed:
            yield from errors
        _check.malformed = _check.malformed or before

    return inverted if keyword in _INVERTING else run


def _keywords(schema: JsonSchema) -> Iterable[tuple[str, object]]:
    return modernize(schema).items()


def _keywords_or_reference(schema: JsonSchema) -> Iterable[tuple[str, object]]:
    """Return the keywords of a draft up to 7, in which the siblings of a reference have no effect."""
    return [("$ref", schema["$ref"])] if "$ref" in schema else _keywords(schema)


def _multiple_of(validator: Any, step: object, instance: object, _schema: object) -> Iterator[ValidationError]:
    """Check `multipleOf` in decimal digits, as they are written: 0.07 is a multiple of 0.01."""
    if validator.is_type(instance, "number") and Decimal(str(instance)) % Decimal(str(step)):
        yield ValidationError(f"{instance!r} is not a multiple of {step}")


def _build(draft: Any, keywords: Any) -> Any:
    """Build a validator of a draft; `keywords` returns the keywords of a node that have effect."""
    known: dict[str, Keyword] = {
        "$recursiveRef": Draft201909Validator.VALIDATORS["$recursiveRef"],
        **Draft202012Validator.VALIDATORS,
        "multipleOf": _multiple_of,
    }
    return create(
        meta_schema=draft.META_SCHEMA,
        validators={name: _guarded(name, check) for name, check in known.items() if name not in _IGNORED},
        id_of=draft.ID_OF,
        applicable_validators=keywords,
    )


_DRAFTS: Final = {
    "4": _build(Draft4Validator, _keywords_or_reference),
    "6": _build(Draft6Validator, _keywords_or_reference),
    "7": _build(Draft7Validator, _keywords_or_reference),
    "2019-09": _build(Draft201909Validator, _keywords),
    "2020-12": _build(Draft202012Validator, _keywords),
}


def find_errors(schema: JsonSchema, value: object) -> list[ValidationError]:
    """Return jsonschema's errors, sorted by path; empty if the check was given up or the schema is malformed."""
    try:
        return try_errors(schema, value)
    except (StepLimitExceeded, RecursionError):
        return []


def try_errors(schema: JsonSchema, value: object) -> list[ValidationError]:
    """Return the result of `find_errors`. Raises StepLimitExceeded or RecursionError if the check was given up."""
    _check.left, _check.malformed = MAX_STEPS, False
    validator = _DRAFTS.get(named_draft(schema), _DRAFTS["2020-12"])
    try:
        checked = validator(_without_dialects(schema), registry=Registry())
        return sorted(checked.iter_errors(value), key=lambda error: error.json_path)
    except _MALFORMED:
        return []


def _without_dialects(schema: object) -> object:
    """Return a schema without `$schema` in any part of it: there, jsonschema would switch to its own validator, which
    applies patterns and counts no steps."""
    if isinstance(schema, list):
        return [_without_dialects(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value if name in DATA else _without_dialects(value)
        for name, value in schema.items()
        if name != "$schema" or not isinstance(value, str)
    }
