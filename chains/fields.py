"""Finds the fields of a request that a refusal names and that the request can do without. Pure.

Laws: only fields that were sent count; a name counts only where the server itself says it, not where it quotes the
prompt; `model`, `messages`, `tools`, `response_format` and the reply's limit are never left out, because the run would
mean something else.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import orjson

from chains.changes import LIMITS, NAMED_CHILDREN, Change

__all__ = ["OTHER_STATUSES", "UNREAD", "find_changes", "is_wanted", "named_paths"]

_KEPT: Final = frozenset({"model", "messages", "tools", "response_format", "tool_choice", *LIMITS})
_OF_MESSAGES: Final = frozenset(
    {"role", "content", "tool_calls", "tool_call_id", "id", "type", "function", "arguments", "text", "image_url", "url"}
)
_OF_SCHEMAS: Final = frozenset(
    {"type", "properties", "items", "required", "enum", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions"}
    | {"description"}
)
UNREAD: Final = ("input", "input_value", "ctx", "failed_generation")
"""Members of error bodies that quote the request."""
_MISSING: Final = ("missing", "value_error.missing")
"""Pydantic's words for a field that it wants."""
_NAMING: Final = ("param", "parameter", "field")
_SAYING: Final = ("message", "messages", "error", "errors", "detail", "details", "loc", *UNREAD)
"""Lists under these names are messages; under others, they are messages about the field of that name."""

_MOST_NODES: Final = 2_000
_ECHO_CHARS: Final = 12
_MOST_CHARS: Final = 8_000

_LOC: Final = re.compile(r"""['"]loc['"]\s*:\s*[\[(]([^\])]{1,200})[\])]""")
_MARKS: Final = "`'\"\u2018\u2019\u201c\u201d\u00ab\u00bb"  # quotation marks of several languages
_QUOTE: Final = rf"[{_MARKS}\[(]{{0,2}}"
_NOT_LATIN: Final = r"[\u0370-\u1dff\u2e80-\ud7ff\uf900-\ufaff\uff66-\uffdc]"  # Greek, Cyrillic, Arabic, Han, Hangul …
_NOUN: Final = (
    r"(?:argument|parameter|param|field|property|key|name|option|attribute|input|setting|member|value)"
    r"(?:s|ies|\(s\))?"
)
# Each is completed by the field's name. "Unrecognized request argument supplied: X", 'Unknown name "X"' …
_BEFORE: Final = (
    r"(?:unrecogni[sz]ed|unknown|unexpected|unsupported|invalid|extra|additional|extraneous|forbidden|illegal"
    r"|not (?:supported|allowed|permitted))"
    r"(?: (?:request|query|body|json|keyword|generation|sampling|top-level|inference))*"
    rf"(?: {_NOUN})?(?: (?:supplied|provided|given|found|in (?:the )?(?:request|body)|named))*\s*[:=]?\s*"
)
# "does not support X", "remove the parameter X" …
_ASKED: Final = (
    r"(?:(?:not|n't|no longer|never) (?:currently |yet )?(?:support|accept|allow|recogni[sz]e|know|implement|permit"
    r"|handle|understand|take|use|set|send|include|specify|contain)\w*|\bcannot (?:use|set|specify|combine|pass)"
    r"|\b(?:remove|omit|unset|drop|without))"
    rf"(?: (?:the|this|a|any|for|setting|use of|using|custom|request|{_NOUN}))*\s*:?\s*"
)
# "X is not supported", "X: Extra inputs are not permitted", "property 'X' is unsupported" …
_AFTER: Final = (
    r"[^.;\n]{0,60}?\b(?:not (?:\w+ )?(?:support|allow|permit|recogni|accept|available|implement|valid|known|expected"
    r"|enabled|used|specified|compatible|defined|found)|cannot|can't|unsupported|unrecogni[sz]ed|unexpected|unknown"
    r"|forbidden|disallowed|deprecated|invalid|only\b|must\b|should\b|no such|extra (?:inputs?|fields?)|n't support)"
)
_IS_VALUE: Final = re.compile(
    r"\b(?:less|greater|smaller|larger|higher|lower|more|fewer) than\b|\bat (?:most|least)\b|\bbetween\b|\brange\b"
    r"|\btoo (?:large|big|high|small|low|many)\b|\bexceed|[<≤≥]|(?<![-=])>|\bm(?:ax|in)imum\b|\bonly the default\b"
    r"|\bunsupported[_ ]value\b|\binvalid[_ ]value\b|\bsupported values\b",
    re.IGNORECASE,
)
_TOGETHER: Final = re.compile(
    r"\bboth\b|\btogether\b|\bsimultaneous|\bmutually\b|\bat the same time\b|\bonly one\b", re.I
)
_UNKNOWN: Final = re.compile(
    r"unexpected keyword|extra (?:inputs?|fields?)|(?:unrecogni[sz]ed|unknown|unsupported) [\w ]{0,20}"
    r"(?:argument|param|field|property|name|key)",
    re.IGNORECASE,
)
_UNWANTED: Final = re.compile(
    rf"{_UNKNOWN.pattern}|additional propert|(?:invalid|unexpected) [\w ]{{0,20}}(?:argument|param|field|propert|key)"
    r"|not permitted",
    re.IGNORECASE,
)
_EMPTY: Final = r"\b(?:null|none|nil|empty|missing|required|strings?|str|blank|undefined|must)\b"
_CONTENT: Final = re.compile(
    rf"\bcontent\b[^.]{{0,80}}?{_EMPTY}|{_EMPTY}[^.]{{0,80}}?\bcontent\b|NoneType|invalid type: null"
    r"|\bnull\b.{0,40}\bexpected\b|\bexpected\b.{0,40}\b(?:null|None)\b|variant of untagged enum",
    re.IGNORECASE,
)

OTHER_STATUSES: Final = (401, 402, 403, 404, 408, 409, 413, 429)
"""Statuses about the key, the address or the load, whatever the error's words are."""


def named_paths(data: Any) -> tuple[str, ...]:
    """Return the request's fields that an error body names in members such as `param`, `field`, pydantic's `loc`,
    and the keys of lists of messages."""
    found: dict[str, None] = {}
    nodes = [data]
    for node in nodes:
        if len(nodes) > _MOST_NODES:
            break
        if isinstance(node, dict):
            found.update((_path(name), None) for key in _NAMING if isinstance(name := node.get(key), str))
            if isinstance(loc := node.get("loc"), list) and node.get("type") not in _MISSING:
                found[_path(".".join(map(str, loc)))] = None
            found.update((_path(key), None) for key, value in node.items() if key not in _SAYING and _are_texts(value))
            nodes += [value for key, value in node.items() if key not in UNREAD]
        elif isinstance(node, list):
            nodes += node[:100]
        elif isinstance(node, str):
            spelled = (re.findall(r"[\w$]+", match[1]) for match in _LOC.finditer(node[:_MOST_CHARS]))
            found.update((_path(".".join(parts)), None) for parts in spelled)
    return tuple(path for path in found if path)


def find_changes(
    body: dict[str, Any], *, paths: Sequence[str], text: str, status: int | None, code: str = ""
) -> list[Change]:
    """Return changes for the fields that a refusal names, if the request can do without; `paths` are `named_paths`'.

    Where it refuses a field without naming it, these are the engine's own fields that were sent back. `status` is None
    for an error inside of a stream. Empty where the refusal is about something else.
    """
    text = text[:_MOST_CHARS]
    is_failure = status is not None and status >= 500 and status != 501
    if status in OTHER_STATUSES or (is_failure and not (_UNKNOWN.search(text) or _CONTENT.search(text))):
        return []
    found = [change for path in paths for change in _at_path(body, path)]
    if not found:
        found = _are_named(_candidates(body), text, body)
    if (content := _content_change(body, paths, text)) is not None:
        found.append(content)
    if not found and _UNWANTED.search(text):
        found = _sent_back(body, text)
    told = f"{code} {text}"
    if {"temperature", "top_p"} <= {change.name for change in found} and _TOGETHER.search(told):
        found = [Change("pair", "top_p")] + [change for change in found if change.name not in ("temperature", "top_p")]
    if _IS_VALUE.search(told):
        found = [_for_value(change, body) for change in found if change.place != "limit"]
    return list(dict.fromkeys(found))


# --- what is named ----------------------------------------------------------------------------------------------------


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _path(told: str) -> str:
    """`body.messages[2].content` → `messages.2.content`."""
    parts = [part for part in re.split(r"[.\[\]/]+", told.strip()) if part]
    while parts and parts[0] in ("body", "json", "request", "$", "query", "data"):
        parts = parts[1:]
    return ".".join(parts)


def _at_path(body: dict[str, Any], path: str) -> list[Change]:
    first, *below = path.split(".")
    named = [part for part in below if not part.isdigit()]
    candidates = _candidates(body)
    match first:
        case "messages":
            return [change for change in candidates if change.place == "message" and change.name in named[-1:]]
        case "tools" | "functions":
            return [
                change
                for change in candidates
                if change.place in ("function", "schema") and change.name in (named[-1:] or [""])
            ]
        case _:
            return [
                change
                for change in candidates
                if change.name == first
                or (change.place == "choice" and first == "tool_choice")
                or (not below and change.place in ("function", "schema") and change.name == first)
            ]


def _candidates(body: dict[str, Any]) -> list[Change]:
    """Everything in the request that can be given up."""
    found: dict[Change, None] = {Change("request", name): None for name in body if name not in _KEPT}
    found.update((Change("limit", name), None) for name in LIMITS if name in body)
    if isinstance(choice := body.get("tool_choice"), str):
        found[Change("choice", choice)] = None
    for message in _dicts(body.get("messages")):
        found.update((Change("message", name), None) for name in message if name not in _OF_MESSAGES)
        for inner in _inner(message):
            found.update((Change("message", name), None) for name in inner if name not in {*_OF_MESSAGES, "name"})
    for function in _functions(body):
        found.update((Change("function", name), None) for name in function if name == "strict")
        for schema in _schemas(function.get("parameters"), []):
            found.update((Change("schema", name), None) for name in schema if name not in _OF_SCHEMAS)
    return list(found)


def _sent_back(body: dict[str, Any], text: str) -> list[Change]:
    """The engine's own fields that go back to it (see `chains.passback`); none where the text says something of one."""
    turns = [message for message in _dicts(body.get("messages")) if message.get("role") == "assistant"]
    own = [change for change in _candidates({"messages": turns}) if change.name != "name"]
    return [] if any(re.search(rf"(?<!\w){re.escape(change.name)}(?!\w)", text) for change in own) else own


def _are_named(candidates: Sequence[Change], text: str, body: dict[str, Any]) -> list[Change]:
    """Those that the text says it refuses; where it says that of none in words we know, those that it names alone."""
    for ways in (_known_ways, _bare_ways):
        if found := [change for change in candidates if _is_named(change, ways, text, body)]:
            return found
    return []


def _is_named(change: Change, ways: Callable[[str], list[str]], text: str, body: dict[str, Any]) -> bool:
    name = "tool_choice" if change.place == "choice" else change.name
    flags = re.IGNORECASE if name.islower() else 0
    matches = (match for way in ways(name) for match in re.finditer(way, text, flags))
    if _is_offered(name, text) or is_wanted(name, text):
        return False
    return any(not _is_echo(match, name, text, body) for match in matches)


def _known_ways(name: str) -> list[str]:
    spelled = _spelled(name)
    others = rf"(?:{_QUOTE}[\w.$]+{_QUOTE}(?:,| and| or) ?){{0,8}}"
    return [rf"\b{_BEFORE}{others}{spelled}", rf"{_ASKED}{others}{spelled}", rf"{spelled}{_AFTER}"]


def _bare_ways(name: str) -> list[str]:
    """In whatever language: `stream_options` is no word of any; `temperature` is one, unless it is quoted or in a
    sentence of another script."""
    if "_" in name or name.startswith("$"):
        return [_spelled(name)]
    alone = rf"(?<![A-Za-z0-9_.-]){re.escape(name)}(?![A-Za-z0-9_-])"
    return [rf"[{_MARKS}]\s?{re.escape(name)}\s?[{_MARKS}]", rf"{_NOT_LATIN}\s?{alone}", rf"{alone}\s?{_NOT_LATIN}"]


def _spelled(name: str) -> str:
    """A name and its quotation marks, with text in scripts without spaces right beside it too."""
    start = r"(?<![A-Za-z0-9_$.-])"
    whole = r"(?:(?:request|body|json|params|parameters|\$)\.)?"
    return rf"{start}{_QUOTE}{start}{whole}{re.escape(name)}(?![A-Za-z0-9_-])[{_MARKS}\])]{{0,2}}"


def _is_offered(name: str, text: str) -> bool:
    """Whether all that the text says of a field is to use it."""
    offered = rf"\b(?:use|try|set|send|specify|provide)\b {_QUOTE}{re.escape(name)}\b[^.]{{0,20}}\binstead\b"
    rest, count = re.subn(offered, "", text, flags=re.IGNORECASE)
    return count > 0 and name not in rest


def is_wanted(name: str, text: str) -> bool:
    """Return whether the text asks for the field instead of refusing it."""
    spelled = _spelled(name)
    after = (
        r"must (?:also )?be (?:passed|provided|present|included|sent|specified)|is (?:required|missing|mandatory)"
        r"|field required"
    )
    before = rf"\b(?:missing|lacks?|requires?)(?: (?:a|the|an|required|{_NOUN}))*\s*:?\s*"
    return re.search(rf"{spelled}[^.;]{{0,60}}?\b(?:{after})|{before}{spelled}", text, re.IGNORECASE) is not None


def _is_echo(match: re.Match[str], name: str, text: str, body: dict[str, Any]) -> bool:
    """Whether the server quotes the prompt here."""
    start = text.find(name, match.start(), match.end())
    if start < 0:
        return False
    end = start + len(name)
    left, right = text[max(0, start - _ECHO_CHARS) : end], text[start : end + _ECHO_CHARS]
    windows = [window for window in (left, right) if len(window) >= len(name) + _ECHO_CHARS // 2]
    said = " ".join(_texts(body.get("messages")).split())
    return any(window in said for window in windows)


def _content_change(body: dict[str, Any], paths: Sequence[str], text: str) -> Change | None:
    """An assistant's turn that is calls only has no content: some servers want an empty text, some no such field."""
    calling = [message for message in _dicts(body.get("messages")) if message.get("tool_calls")]
    contents = [message["content"] for message in calling if "content" in message]
    named = any(re.fullmatch(r"messages\.(?:.*\.)?content", path) for path in paths) or _CONTENT.search(text)
    if not named or not any(content in (None, "") for content in contents):
        return None
    return Change("content", "empty" if None in contents else "absent")


def _for_value(change: Change, body: dict[str, Any]) -> Change:
    if change.place != "request" or change.name == "stream" or change.name not in body:
        return change
    return Change("request", change.name, orjson.dumps(body[change.name]).decode())


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _functions(body: dict[str, Any]) -> list[dict[str, Any]]:
    return _dicts([tool.get("function") for tool in _dicts(body.get("tools"))])


def _inner(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects inside of a message: content parts and calls, with their own."""
    for part in (*_dicts(message.get("content")), *_dicts(message.get("tool_calls"))):
        yield part
        yield from _dicts([part.get("image_url"), part.get("function")])


def _schemas(schema: Any, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every schema in a schema."""
    nodes = [schema]
    for node in nodes:
        if len(nodes) > _MOST_NODES:
            break
        if isinstance(node, list):
            nodes += node
        elif isinstance(node, dict):
            found.append(node)
            for key, value in node.items():
                nodes += value.values() if key in NAMED_CHILDREN and isinstance(value, dict) else [value]
    return found


def _texts(value: Any) -> str:
    """All strings of a value, one after the other."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        return " ".join(map(_texts, value.values() if isinstance(value, dict) else value))
    return ""
