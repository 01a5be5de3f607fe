"""Validates requests, and translates pydantic's errors into one InvalidRequest in OpenAI's wording. Pure.

Invariant: only the first error is reported, as with OpenAI, but an unknown parameter outranks a missing one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, StringConstraints, Tag, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from wire.errors import InvalidRequest
from wire.json import Json, JsonObject, UncheckedJson
from wire.leniency import STRICT, Leniency, repair
from wire.paths import KEY, TAG, Location, format_path, truncated
from wire.validation_errors import first_error, list_errors

__all__ = [
    "MAX_EXPLAINED",
    "MAX_ID",
    "Id",
    "Request",
    "Scalar",
    "check_id",
    "explain",
    "invalid_value",
    "one_of",
    "parse",
    "truncated",
]

MAX_ID: Final = 64
"""Characters."""

MAX_EXPLAINED: Final = 100
"""How many errors are examined to choose the one to report, unless leniency needs all of them."""

_TYPES: Final = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a decimal number",
    "bool_type": "a boolean",
    "scalar_type": "one of a string, number, or boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}

_EXTENSION: Final = "+"
"""Begins the tags of extensions, after `TAG`."""

M = TypeVar("M", bound=BaseModel)


class Request(BaseModel):
    """Base of all requests: unknown fields are refused, nothing is coerced, and instances are immutable."""

    is_extension: ClassVar[bool] = False
    """Whether OpenAI does not have this member of a union. Errors then do not list it, as their wording is OpenAI's."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Id = Annotated[str, StringConstraints(max_length=MAX_ID)]


def _scalar(value: Json) -> Json:
    """Report an invalid type in one error for the whole union, not in that of its first member."""
    if not isinstance(value, str | bool | int | float):
        raise PydanticCustomError("scalar_type", "not a string, number or boolean")
    return value


Scalar = Annotated[bool | int | float | str, BeforeValidator(_scalar)]
"""The value of an attribute, or a value that an attribute is compared with."""


def one_of(**members: Any) -> Any:
    """Make a union of objects that is discriminated by `type`; a member named `text_` accepts plain strings.

    Pydantic's plain discriminated union has no strings, and in the paths of its errors a tag looks like a field of the
    same name.
    """
    union: Any = None
    tags = {name: _tag(name, member) for name, member in members.items()}
    for name, member in members.items():
        tagged: Any = Annotated[member, Tag(tags[name])]
        union = tagged if union is None else union | tagged
    return Annotated[union, Discriminator(_tag_of(tags))]


def _tag(name: str, member: object) -> str:
    return TAG + (_EXTENSION if getattr(member, "is_extension", False) else "") + name


def _tag_of(tags: Mapping[str, str]) -> Callable[[Json], str | None]:
    def tag(value: Json) -> str | None:
        if "text_" in tags and isinstance(value, str):
            return tags["text_"]
        kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
        return None if kind is None else tags.get(str(kind), TAG)

    return tag


def parse(model: type[M], data: Json, leniency: Leniency = STRICT) -> M:
    """Validate a request, repaired as far as leniency allows. Raises InvalidRequest in OpenAI's wording."""
    try:
        return model.model_validate(data)
    except ValidationError:
        pass
    repaired = repair(model, data, leniency).data
    try:
        return model.model_validate(repaired)
    except ValidationError as error:
        raise explain(list_errors(model, repaired, error, MAX_EXPLAINED).errors) from None


def check_id(param: str, value: str, prefix: str) -> None:
    """Raise InvalidRequest for an id that no object of this kind can have, such as `undefined`."""
    if len(value) > MAX_ID:
        raise _too_long(param, MAX_ID, len(value))
    if not value.startswith(prefix):
        raise InvalidRequest(
            f"Invalid '{param}': '{value}'. Expected an ID that begins with '{prefix}'.",
            param=param,
            code="invalid_value",
        )


def invalid_value(reason: str) -> PydanticCustomError:
    """Return the error that a validator of requests raises instead of a ValueError.

    Pydantic keeps a ValueError with its traceback, and thus the whole request, until the garbage collector runs.
    """
    return PydanticCustomError("value_error", "{reason}", {"reason": reason})


def explain(errors: Sequence[ErrorDetails]) -> InvalidRequest:
    """Translate pydantic's error list, from `errors()`; a leading `body` or `query` in a path is dropped."""
    error = first_error(errors)
    loc = error["loc"][1:] if error["loc"][:1] in (("body",), ("query",), ("path",), ("header",)) else error["loc"]
    where = format_path(loc)
    kind: str = error["type"]
    context = error.get("ctx", {})
    given = error.get("input")
    if kind in _TYPES:
        return _wrong_type(where, _TYPES[kind], given)
    if kind == "int_parsing" or kind == "float_parsing":  # of a query
        return _wrong_type(where, "an integer" if kind == "int_parsing" else "a decimal number", given)
    translate = _TRANSLATORS.get(kind)
    if translate is not None:
        return translate(where, given, context, loc)
    reason = error["msg"].removeprefix("Value error, ")  # pydantic's prefix for the message of a ValueError
    message = f"Invalid value for '{where}': {reason}." if where else f"Invalid request: {reason}."
    return InvalidRequest(message, param=where or None, code="invalid_value")


# --- one translation per kind of error ------------------------------------------------------------------------------


def _missing(where: str, *_: Json) -> InvalidRequest:
    message = f"Missing required parameter: '{where}'."
    return InvalidRequest(message, param=where, code="missing_required_parameter")


def _unknown(where: str, *_: Json) -> InvalidRequest:
    return InvalidRequest(f"Unknown parameter: '{where}'.", param=where, code="unknown_parameter")


def _enum(where: str, given: Json, context: JsonObject, *_: Json) -> InvalidRequest:
    if given is None or isinstance(given, dict | list):
        return _wrong_type(where, "a string", given)
    return _unsupported(where, given, re.findall(r"'([^']*)'", context["expected"]))


def _union_tag(where: str, given: Json, context: JsonObject, *_: Json) -> InvalidRequest:
    known = [tag.removeprefix(TAG) for tag in re.findall(r"'([^']*)'", context["expected_tags"])]
    kinds = [tag for tag in known if tag != "text_" and not tag.startswith(_EXTENSION)]
    kind = given.get("type") if isinstance(given, dict) else given
    if not isinstance(given, dict):
        return _unsupported(where, given, kinds)
    path = f"{where}.type" if where else "type"
    return _unsupported(path, kind, kinds) if isinstance(kind, str) else _wrong_type(path, "a string", kind)


def _union_no_tag(where: str, given: Json, *_: Json) -> InvalidRequest:
    if isinstance(given, dict):
        return _missing(f"{where}.type" if where else "type")
    return _wrong_type(where, "an object", given)


def _string_long(where: str, given: UncheckedJson, context: JsonObject, loc: Location) -> InvalidRequest:
    if loc[-1:] == (KEY,):
        within = format_path(loc[:-2])
        message = (
            f"Invalid '{within}': key too long. Expected a key with maximum length {context['max_length']}, "
            f"but got a key with length {len(given)} instead."
        )
        return InvalidRequest(message, param=within, code="string_above_max_length")
    return _too_long(where, context["max_length"], len(given))


def _string_short(where: str, given: UncheckedJson, context: JsonObject, *_: Json) -> InvalidRequest:
    message = (
        f"Invalid '{where}': string too short. Expected a string with minimum length {context['min_length']}, "
        f"but got a string with length {len(given)} instead."
    )
    return InvalidRequest(message, param=where, code="string_below_min_length")


def _pattern(where: str, _: Json, context: JsonObject, *__: Json) -> InvalidRequest:
    message = (
        f"Invalid '{where}': string does not match pattern. "
        f"Expected a string that matches the pattern '{context['pattern']}'."
    )
    return InvalidRequest(message, param=where, code="invalid_value")


def _many(where: str, given: UncheckedJson, context: JsonObject, *_: Json) -> InvalidRequest:
    limit = context["max_length"]
    if isinstance(given, dict):
        message = (
            f"Invalid '{where}': too many properties. Expected an object with at most {limit} properties, "
            f"but got an object with {len(given)} properties instead."
        )
        return InvalidRequest(message, param=where, code="object_above_max_properties")
    message = (
        f"Invalid '{where}': array too long. Expected an array with maximum length {limit}, "
        f"but got an array with length {len(given)} instead."
    )
    return InvalidRequest(message, param=where, code="array_above_max_length")


def _few(where: str, _: Json, context: JsonObject, *__: Json) -> InvalidRequest:
    message = (
        f"Invalid '{where}': empty array. Expected an array with minimum length {context['min_length']}, "
        "but got an empty array instead."
    )
    return InvalidRequest(message, param=where, code="empty_array")


def _above(where: str, given: Json, context: JsonObject, *_: Json) -> InvalidRequest:
    return _beyond(where, given, context["le"], ("above", "maximum", "<="))


def _below(where: str, given: Json, context: JsonObject, *_: Json) -> InvalidRequest:
    return _beyond(where, given, context["ge"], ("below", "minimum", ">="))


def _beyond(where: str, given: Json, limit: float, words: tuple[str, str, str]) -> InvalidRequest:
    kind = "decimal" if isinstance(limit, float) else "integer"
    side, end, sign = words
    message = (
        f"Invalid '{where}': {kind} {side} {end} value. "
        f"Expected a value {sign} {limit:g}, but got {truncated(given)} instead."
    )
    return InvalidRequest(message, param=where, code=f"{kind}_{side}_{end[:3]}_value")


_Translate = Callable[[str, Json, JsonObject, Location], InvalidRequest]
_TRANSLATORS: Final[dict[str, _Translate]] = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    "literal_error": _enum,
    "union_tag_invalid": _union_tag,
    "union_tag_not_found": _union_no_tag,
    "string_too_long": _string_long,
    "string_too_short": _string_short,
    "string_pattern_mismatch": _pattern,
    "too_long": _many,
    "too_short": _few,
    "less_than_equal": _above,
    "greater_than_equal": _below,
}


def _too_long(where: str, limit: int, length: int) -> InvalidRequest:
    message = (
        f"Invalid '{where}': string too long. Expected a string with maximum length {limit}, "
        f"but got a string with length {length} instead."
    )
    return InvalidRequest(message, param=where, code="string_above_max_length")


def _wrong_type(where: str, expected: str, given: Json) -> InvalidRequest:
    message = f"Invalid type for '{where}': expected {expected}, but got {_kind(given)} instead."
    if not where:
        message = f"Invalid type for the request body: expected {expected}, but got {_kind(given)} instead."
    return InvalidRequest(message, param=where or None, code="invalid_type")


def _unsupported(where: str, given: Json, supported: Sequence[str]) -> InvalidRequest:
    quoted = [f"'{value}'" for value in supported]
    listed = " and ".join(quoted) if len(quoted) < 3 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
    message = f"Invalid value: '{truncated(given)}'. Supported values are: {listed}."
    return InvalidRequest(message, param=where or None, code="invalid_value")


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
