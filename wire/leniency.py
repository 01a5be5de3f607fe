"""What a request can contain although its model refuses it: one module for all models and all positions. Pure.

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
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from wire.paths import Location, find_place, spell_path

__all__ = ["STRICT", "Leniency", "Mended", "list_ignored", "mend"]

_OBJECT_EXPECTED: Final = frozenset({"dict_type", "model_attributes_type", "model_type", "union_tag_not_found"})
_MAX_PASSES: Final = 128
"""More than a body has levels: what a union hides shows in the pass after its branch is known."""
_MAX_LISTED: Final = 1024  # characters of a list of ignored fields


@dataclass(frozen=True, slots=True)
class Leniency:
    """What is accepted beside PHP's empty objects."""

    ignore_unknown: bool = False
    v1: bool = False
    sent: bytes | None = None
    """The body as it was sent, where numbers may have lost digits since."""

    @property
    def goes_beyond_php(self) -> bool:
        """Whether anything but an empty array can be mended."""
        return self.ignore_unknown or self.v1


STRICT: Final = Leniency()


@dataclass(frozen=True, slots=True)
class Mended:
    """A request's data after mending. `ignored` are the paths that were left out, such as `messages[0].id`."""

    data: Any
    changed: bool = False
    ignored: Sequence[str] = ()


def mend(model: type[BaseModel], data: Any, leniency: Leniency = STRICT) -> Mended:
    """Return the data as the model can read it, if leniency is enough for that; else as far as it goes.

    The data itself is not changed.
    """
    mending = _Mending(data, leniency)
    for _ in range(_MAX_PASSES):
        if not mending.apply(_errors(model, mending.data)):
            break
    return Mended(mending.data, mending.changed, mending.ignored)


def list_ignored(paths: Sequence[str]) -> str:
    """Return the paths as a header's value: ASCII, separated by commas, and `...` at the end where some are left out.

    What a header cannot have, and a comma within a path, is percent-encoded as UTF-8.
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


def _errors(model: type[BaseModel], data: Any) -> list[Any]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        return list(error.errors(include_url=False, include_context=False))
    return []


class _Mending:
    """A request's data on its way. What was given is copied before the first change."""

    def __init__(self, data: Any, leniency: Leniency) -> None:
        self._holder = [data]
        self._leniency = leniency
        self.changed = False
        self.ignored: list[str] = []

    @property
    def data(self) -> Any:
        """The data as it is now."""
        return self._holder[0]

    def apply(self, errors: Sequence[Any]) -> bool:
        """Mend what pydantic's errors are about; returns whether that changed anything."""
        if errors and not self.changed:
            self._holder = deepcopy(self._holder)
        mended = [self._mend(error) for error in errors]  # all of them, not up to the first
        self.changed |= any(mended)
        return any(mended)

    def _mend(self, error: Any) -> bool:
        loc: Location = error["loc"]
        place = find_place(self._holder, (0, *loc))
        if place is None:
            return False
        within, key = place
        given = within[key]
        if error["type"] in _OBJECT_EXPECTED:
            if not isinstance(given, list) or given:
                return False
            within[key] = {}
            return True
        if self._leniency.v1 and error["type"] == "string_type" and loc[-2:-1] == ("metadata",):
            return self._write_text(within, key, loc)
        return self._leniency.ignore_unknown and isinstance(within, dict) and self._ignore(within, key, error)

    def _write_text(self, within: Any, key: Any, loc: Location) -> bool:
        """Replace a boolean or number by its JSON text."""
        given = within[key]
        if not isinstance(given, bool | int | float):
            return False
        text = json.dumps(given)
        if not isinstance(given, bool) and (place := find_place(self._sent, (0, *loc))) is not None:
            text = place[0][place[1]]
        within[key] = text
        return True

    @cached_property
    def _sent(self) -> Any:
        """What was sent, with numbers as they were written: 64 bits and IEEE 754 lose digits of it."""
        sent = self._leniency.sent
        return [None if sent is None else json.loads(sent, parse_int=str, parse_float=str)]

    def _ignore(self, within: dict[Any, Any], key: Any, error: Any) -> bool:
        """Leave out what a request has more than its model, or read it as the API writes it."""
        loc, given = error["loc"], within[key]
        match error["type"]:
            case "extra_forbidden":
                del within[key]
                self.ignored.append(spell_path(loc))
                return True
            case "string_type" if loc[-2:] == ("~text", "text") and _is_text(given):
                within[key] = given["value"]
                self.ignored.extend(f"{spell_path(loc)}.{name}" for name in given if name != "value")
                return True
            case "too_short" if key == "content" and within.get("object") == "thread.message":
                within[key] = ""  # of a run that ended before its first token
                return True
        return False


def _is_text(value: Any) -> bool:
    """Whether it is a text as the API returns it: `{"value": …, "annotations": […]}`."""
    return isinstance(value, dict) and isinstance(value.get("value"), str)
