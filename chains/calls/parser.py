"""Finds calls in a model's text: JSON with prose around it, in fences or tags, truncated, or slightly invalid. Pure.

Invariant: JSON that names no offered function and does not look like a call is text.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

__all__ = ["Written", "calls_as_pairs", "find_calls", "is_quick", "may_call", "read_object"]

_MAX_CHARS: Final = 200_000  # of a text; longer ones are not searched
_MAX_REPAIRED: Final = 20_000
_MAX_TRIES: Final = 5  # of repairs
_MAX_COST: Final = 4_000_000  # characters times quotes and brackets; json-repair can take 0.1 s for this
_MAX_CALLS: Final = 128
_QUICK_COST: Final = 100_000  # the same for a text that is repaired on the event loop: about 3 ms
_QUICK_CHARS: Final = 20_000
_QUICK_MARKS: Final = 10_000
"""Quotes and brackets of JSON of any length that is parsed on the event loop: a few milliseconds."""

_NAMES: Final = ("name", "function", "tool", "function_name", "tool_name", "action")
_ARGUMENTS: Final = ("arguments", "parameters", "args", "input", "action_input", "tool_input", "function_arguments")
_LISTS: Final = ("calls", "tool_calls", "function_calls", "functions", "tools")
_FIRST_KEYS: Final = (*_NAMES, *_ARGUMENTS, *_LISTS, "id", "type", "function_call", "tool_call")

_BARE_KEY: Final = re.compile(r"([A-Za-z_]\w*)\s*(:|\Z)")
_OPENING: Final = re.compile(r"[{\[]")
_TAGS: Final = ("<tool_call>", "<tools>", "<function", "<|tool_call", "[TOOL_CALLS]")
_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Written:
    """A call as the model wrote it; `arguments` is JSON text, not checked yet."""

    name: str
    arguments: str


class _Names:
    """The names of the offered functions, also in lower case."""

    def __init__(self, offered: Collection[str]) -> None:
        self._exact = frozenset(offered)
        self._alike: dict[str, list[str]] = {}
        for name in offered:
            self._alike.setdefault(name.lower(), []).append(name)

    def find(self, written: str) -> str | None:
        """Return the function that a model means; None if there is none or the name is ambiguous."""
        name = written.strip().removeprefix("functions.")
        if name in self._exact:
            return name
        alike = self._alike.get(name.lower(), ())
        return alike[0] if len(alike) == 1 else None


def find_calls(text: str, offered: Collection[str], *, only: str | None = None) -> list[Written]:
    """Return the calls in a text, in order. A name that differs only in case is replaced by the offered one.

    With `only`, an object without a name is that function's arguments. An unknown name with arguments is returned
    unchanged, so that the model gets an error for it.
    """
    if len(text) > _MAX_CHARS:
        return []
    names = _Names(offered)
    calls: list[Written] = []
    bare: dict[str, object] | None = None
    for value, start, repaired in _values(text):
        found = list(islice(_calls(value, names), _MAX_CALLS - len(calls)))
        if not found and isinstance(value, dict):
            if before := _name_before(text, start, names):
                found = [Written(before, _arguments_text(value))]  # getWeather({"place": "Rome"})
            bare = bare or value
        calls += found
        if (found and repaired) or len(calls) == _MAX_CALLS:
            break  # the repair has consumed the rest of the text
    if not calls and only is not None and bare is not None:
        calls = [Written(only, _arguments_text(bare))]
    return calls


def calls_as_pairs(text: str, offered: list[str], only: str | None) -> list[tuple[str, str]]:
    """Return the names and arguments of the calls that `find_calls` finds, in a form that a child process can send."""
    return [(call.name, call.arguments) for call in find_calls(text, offered, only=only)]


def is_quick(text: str) -> bool:
    """Return whether searching a text for calls or an object is quick: it is short with little to repair, or too long
    to be searched."""
    if len(text) > _MAX_CHARS:
        return True
    marks = sum(map(text.count, "\"'{["))
    if not marks or (len(text) <= _QUICK_CHARS and len(text) * marks <= _QUICK_COST):
        return True
    return marks <= _QUICK_MARKS and _is_json(text)


def _is_json(text: str) -> bool:
    """Return whether a text is one JSON value that needs no repair."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def read_object(text: str) -> dict[str, object] | None:
    """Return the first JSON object in a text, repaired if necessary; None without one."""
    if len(text) > _MAX_CHARS:
        return None
    return next((value for value, _, _ in _values(text) if isinstance(value, dict)), None)


def may_call(text: str, offered: Collection[str]) -> Literal["yes", "no", "wait"]:
    """Return whether a partial text that begins with `{`, `[`, a backtick or `<` can be a call."""
    for tag in _TAGS:
        if text.startswith(tag):
            return "yes"
        if tag.startswith(text):
            return "wait"
    if text.startswith("`"):
        return _fence(text, offered)
    if text.startswith("["):
        inner = text[1:].lstrip()
        return "wait" if not inner else _object(inner, offered) if inner.startswith("{") else "no"
    return _object(text, offered) if text.startswith("{") else "no"


def _fence(text: str, offered: Collection[str]) -> Literal["yes", "no", "wait"]:
    if not text.startswith("```"):
        return "wait" if len(text) < 3 and not text.strip("`") else "no"
    language, newline, inside = text[3:].partition("\n")
    if not newline:
        return "wait" if len(language) < 20 else "no"
    inside = inside.lstrip()
    return "wait" if not inside else may_call(inside, offered) if inside[0] in "{[<" else "no"


def _object(text: str, offered: Collection[str]) -> Literal["yes", "no", "wait"]:
    inside = text[1:].lstrip()
    if not inside:
        return "wait"
    known = (*_FIRST_KEYS, *offered)
    if inside[0] in "\"'":
        key, quote, _ = inside[1:].partition(inside[0])
    elif (bare := _BARE_KEY.match(inside)) is not None:  # {name: "getWeather"}
        key, quote = bare[1], bare[2]
    else:
        return "no"
    if quote:
        return "yes" if key in known else "no"
    return "wait" if any(each.startswith(key) for each in known) else "no"


def _values(text: str) -> Iterator[tuple[object, int, bool]]:
    """Yield each JSON value in a text, its position, and whether it was repaired."""
    start, tries = 0, 0
    while opening := _OPENING.search(text, start):
        start = opening.start()
        try:
            value, end = _decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            tries += 1
            if tries > _MAX_TRIES:
                return
            if _is_rich(value := _repaired(text[start : start + _MAX_REPAIRED])):
                yield value, start, True
            start += 1
        else:
            yield value, start, False
            start = end


def _repaired(text: str) -> object:
    closing = text.find("```")
    text = text if closing < 0 else text[:closing]
    for tag in ("</tool_call>", "</function>", "</tools>"):
        text = text.partition(tag)[0]
    if len(text) * sum(map(text.count, "\"'{[")) > _MAX_COST:
        return None
    from json_repair import repair_json  # `modes` has loaded it by now

    try:
        return repair_json(text, return_objects=True, skip_json_loads=True)
    except (RecursionError, ValueError):
        return None


def _is_rich(value: object) -> bool:
    """Whether a repair has found an object or a list of objects, and not made a list of prose in brackets."""
    if isinstance(value, list):
        return any(isinstance(each, dict) and each for each in value)
    return isinstance(value, dict) and bool(value)


def _calls(value: object, names: _Names) -> Iterator[Written]:
    if isinstance(value, list):
        for each in value:
            if isinstance(each, dict):
                yield from _calls(each, names)
        return
    if not isinstance(value, dict):
        return
    for key in _LISTS:
        if isinstance(inner := value.get(key), list) and inner:
            yield from _calls(inner, names)
            return
    for key in ("function", "function_call", "tool_call"):
        if isinstance(inner := value.get(key), dict):
            yield from _calls(inner, names)
            return
    yield from _one(value, names)


def _one(value: dict[str, object], names: _Names) -> Iterator[Written]:
    written = next((name for key in _NAMES if isinstance(name := value.get(key), str)), None)
    given = next((key for key in _ARGUMENTS if key in value), None)
    if written is not None:
        name = names.find(written)
        if name is not None or given is not None:
            yield Written(name or written.strip(), _arguments_text(value[given]) if given is not None else "{}")
        return
    for key, inner in value.items():  # {"getWeather": {"place": "Rome"}}
        if isinstance(inner, dict) and (name := names.find(key)) is not None:
            yield Written(name, _arguments_text(inner))


def _name_before(text: str, end: int, names: _Names) -> str | None:
    found = re.search(r"([A-Za-z0-9_.-]{1,80})\s{0,3}\(\s{0,3}\Z", text[max(0, end - 100) : end])
    return names.find(found[1]) if found else None


def _arguments_text(arguments: object) -> str:
    """Return arguments as JSON text; a string already holds such text."""
    if arguments is None:
        return "{}"
    if isinstance(arguments, str):
        return arguments.strip() or "{}"
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
