"""Repairs requests that a model refuses but this server accepts, for all models and at all positions. Pure.

The models stay strict. Where one of them refuses a request, its errors say which positions are wrong and what is
expected there, so no position can be forgotten, and valid requests cost nothing.

- Always: PHP's `json_encode` writes an empty object as `[]`. Where an object is expected, `[]` is `{}`.
- Under `assistants=v1`: booleans and numbers in `metadata` become their JSON text.
- With `UNKNOWN_FIELDS=ignore`: unknown fields are removed, and the text of a message can be the object in which the
  API returns it. An object that was read from the API can thus be sent back whole.
"""

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from wire.json import Json, UncheckedJson
from wire.paths import Location, find_container, format_path
from wire.validation_errors import ValidationErrors, first_error, validation_errors

__all__ = ["STRICT", "Leniency", "Repaired", "list_ignored", "repair"]

_OBJECT_EXPECTED: Final = frozenset({"dict_type", "model_attributes_type", "model_type", "union_tag_not_found"})
_MAX_PASSES: Final = 128
"""More than a body has levels: errors inside a union show only in the pass after its branch is known."""
_MAX_LISTED: Final = 1024  # characters of a list of ignored fields


@dataclass(frozen=True, slots=True)
class Leniency:
    """What is accepted in addition to PHP's empty objects."""

    ignore_unknown: bool = False
    v1: bool = False
    sent: bytes | None = None
    """The body as the client sent it, if decoding can have changed its numbers."""

    @property
    def repairs_more_than_empty_arrays(self) -> bool:
        """Whether anything but an empty array can be repaired."""
        return self.ignore_unknown or self.v1


STRICT: Final = Leniency()


@dataclass(frozen=True, slots=True)
class Repaired:
    """A request's data after the repair. `ignored` are the paths that were removed, such as `messages[0].id`; `refused`
    is the error to report if leniency was not enough."""

    data: UncheckedJson
    changed: bool = False
    ignored: Sequence[str] = ()
    refused: ErrorDetails | None = None


def repair(
    model: type[BaseModel],
    data: Json,
    leniency: Leniency = STRICT,
    *,
    found: ValidationErrors | None = None,
    start: int = 0,
) -> Repaired:
    """Return the data repaired so that the model accepts it, as far as leniency allows.

    `found` are pydantic's errors for this data, if they are known; the data begins at part `start` of their
    locations. Data with more than `MAX_ERRORS` errors is refused unrepaired. The data itself is not changed.
    """
    repairing, refused = _Repair(data, leniency), None
    left = validation_errors(model, data) if found is None else found
    for _ in range(_MAX_PASSES):
        if not left.errors or (refused := repairing.apply(left, start)) is not None:
            break
        left, start = validation_errors(model, repairing.data), 0
    return Repaired(repairing.data, repairing.changed, repairing.ignored, refused)


def list_ignored(paths: Sequence[str]) -> str:
    """Return the paths as a header's value: ASCII, separated by commas, with `...` at the end if some are left out.

    Commas within a path, and characters that a header cannot contain, are percent-encoded as UTF-8.
    """
    listed = ""
    for path in paths:
        spelled = "".join(_encoded(path))
        if len(listed) + len(spelled) > _MAX_LISTED:
            return f"{listed}, ..." if listed else "..."
        listed += f", {spelled}" if listed else spelled
    return listed


def _encoded(path: str) -> Iterator[str]:
    for letter in path:
        if "!" <= letter <= "~" and letter not in ",%":
            yield letter
        else:
            yield from (f"%{byte:02X}" for byte in letter.encode("utf-8", "replace"))


class _Repair:
    """A request's data during the repair. The original is copied before the first change."""

    def __init__(self, data: Json, leniency: Leniency) -> None:
        self._holder = [data]
        self._leniency = leniency
        self.changed = False
        self.ignored: list[str] = []

    @property
    def data(self) -> Json:
        """The data as it is now."""
        return self._holder[0]

    def apply(self, found: ValidationErrors, start: int) -> ErrorDetails | None:
        """Repair the positions that pydantic's errors name; return the error to report if one remains.

        The first `start` parts of the errors' locations are not part of the data; the returned error omits them.
        """
        errors = found.errors
        unrepairable = self._find_unrepairable(found)
        if unrepairable is not None:
            return {**unrepairable, "loc": unrepairable["loc"][start:]}
        if not self.changed:
            self._holder = deepcopy(self._holder)
        refused: ErrorDetails | None = None
        for error in errors:
            loc: Location = error["loc"][start:]
            if self._repair(loc, error["type"]):
                self.changed = True
            elif refused is None or (refused["type"] == "missing" and error["type"] != "missing"):
                refused = error.copy()
                refused["loc"] = tuple(loc)
        return refused

    def _find_unrepairable(self, found: ValidationErrors) -> ErrorDetails | None:
        """Return the error to report if examining every error would be useless or take too long, else None."""
        errors = found.errors
        if not found.complete:
            return first_error(errors)
        if self._leniency.ignore_unknown:
            return None  # the answer lists what was ignored, even if it is a refusal
        repairable = _OBJECT_EXPECTED | {"missing"} | ({"string_type"} if self._leniency.v1 else set())
        return next((error for error in errors if error["type"] not in repairable), None)

    def _repair(self, loc: Location, kind: str) -> bool:
        place = find_container(self._holder, (0, *loc))
        if place is None:
            return False
        within, key = place
        given = within[key]
        if kind in _OBJECT_EXPECTED:
            if not isinstance(given, list) or given:
                return False
            within[key] = {}
            return True
        if self._leniency.v1 and kind == "string_type" and loc[-2:-1] == ("metadata",):
            return self._write_text(within, key, loc)
        return self._leniency.ignore_unknown and isinstance(within, dict) and self._ignore(within, key, loc, kind)

    def _write_text(self, within: UncheckedJson, key: Json, loc: Location) -> bool:
        """Replace a boolean or number by its JSON text."""
        given = within[key]
        if not isinstance(given, bool | int | float):
            return False
        text = json.dumps(given)
        if not isinstance(given, bool) and (place := find_container(self._sent, (0, *loc))) is not None:
            text = place[0][place[1]]
        within[key] = text
        return True

    @cached_property
    def _sent(self) -> Json:
        """The data that was sent, with numbers as text: 64-bit integers and floats can lose digits."""
        sent = self._leniency.sent
        return [None if sent is None else json.loads(sent, parse_int=str, parse_float=str)]

    def _ignore(self, within: dict[Json, UncheckedJson], key: Json, loc: Location, kind: str) -> bool:
        """Remove a field that the model does not have, or convert a value from the form in which the API returns it."""
        given = within[key]
        match kind:
            case "extra_forbidden":
                del within[key]
                self._list(loc)
                return True
            case "string_type" if loc[-2:] == ("~text", "text") and _is_text(given):
                within[key] = given["value"]
                for name in given.keys() - {"value"}:
                    self._list((*loc, name))
                return True
            case "too_short" if key == "content" and within.get("object") == "thread.message":
                within[key] = ""  # the message of a run that ended before its first token
                return True
        return False

    def _list(self, loc: Location) -> None:
        if len(self.ignored) <= _MAX_LISTED:  # more do not fit, however short they are
            self.ignored.append(format_path(loc))


def _is_text(value: Json) -> bool:
    """Return whether the value is a text as the API returns it: `{"value": …, "annotations": […]}`."""
    return isinstance(value, dict) and isinstance(value.get("value"), str)
