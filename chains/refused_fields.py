"""Finds the fields of a request that a refusal names and that the request can do without. Pure.

Invariants: only fields that were sent count. A name counts only if the server itself uses it, not if it quotes the
prompt. `model`, `messages`, `tools`, `response_format` and the reply's limit are never left out, because that would
change the meaning of the run.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import orjson

from chains.field_mentions import FieldMention
from chains.quotes import RequestText
from chains.request_changes import LIMITS, NAMED_CHILDREN, RequestChange

__all__ = ["OTHER_STATUSES", "UNREAD", "find_request_changes", "named_paths"]

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
"""Pydantic's error types for a missing field."""
_NAMING: Final = ("param", "parameter", "field")
_MESSAGE_LISTS: Final = ("message", "messages", "error", "errors", "detail", "details", "loc", *UNREAD)
"""Lists under these names are messages; other lists are messages about the field of their name."""

_MAX_NODES: Final = 2_000
_MAX_READ: Final = 20_000
"""Maximum fields of one request that are read, each counted as often as it occurs."""
_MAX_FIELDS: Final = 2_000
"""Maximum different fields of one request that are searched for in a refusal."""
_MAX_NAMED: Final = 100
"""Maximum fields that a refusal names; a refusal that names more quotes the whole request."""
_MAX_CHARS: Final = 8_000

_LOC: Final = re.compile(r"""['"]loc['"]\s*:\s*[\[(]([^\])]{1,200})[\])]""")
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
"""Statuses about the key, the address or the load, whatever the error's text is."""


def named_paths(data: object) -> tuple[str, ...]:
    """Return the request's fields that an error body names in members such as `param`, `field`, pydantic's `loc`,
    and the keys of lists of messages."""
    found: dict[str, None] = {}
    nodes = [data]
    for node in nodes:
        if len(nodes) > _MAX_NODES:
            break
        if isinstance(node, dict):
            found.update((_path(name), None) for key in _NAMING if isinstance(name := node.get(key), str))
            if isinstance(loc := node.get("loc"), list) and node.get("type") not in _MISSING:
                found[_path(".".join(map(str, loc)))] = None
            found.update(
                (_path(key), None) for key, value in node.items() if key not in _MESSAGE_LISTS and _are_texts(value)
            )
            nodes += [value for key, value in node.items() if key not in UNREAD]
        elif isinstance(node, list):
            nodes += node[:100]
        elif isinstance(node, str):
            spelled = (re.findall(r"[\w$]+", match[1]) for match in _LOC.finditer(node[:_MAX_CHARS]))
            found.update((_path(".".join(parts)), None) for parts in spelled)
    return tuple(path for path in found if path)


def find_request_changes(
    body: dict[str, object], sent: RequestText, *, paths: Sequence[str], text: str, status: int | None, code: str = ""
) -> list[RequestChange]:
    """Return changes for the fields that a refusal names, if the request can do without them. `paths` are those of
    `named_paths`, `sent` holds the texts of the request.

    If it refuses a field without naming it, the changes drop the engine's own fields that were sent back. The list is
    empty if the refusal has another cause. `status` is None for an error inside a stream.
    """
    text = text[:_MAX_CHARS]
    is_failure = status is not None and status >= 500 and status != 501
    if status in OTHER_STATUSES or (is_failure and not (_UNKNOWN.search(text) or _CONTENT.search(text))):
        return []
    candidates = _candidates(body)
    found = [change for path in paths for change in _at_path(candidates, path)]
    if not found:
        found = _named_in_text(candidates, text, sent)
    if (content := _content_change(body, paths, text)) is not None:
        found.append(content)
    if not found and _UNWANTED.search(text):
        found = _sent_back(body, text)
    described = f"{code} {text}"
    if {"temperature", "top_p"} <= {change.name for change in found} and _TOGETHER.search(described):
        found = [RequestChange("pair", "top_p")] + [
            change for change in found if change.name not in ("temperature", "top_p")
        ]
    if _IS_VALUE.search(described):
        found = [_for_value(change, body) for change in found if change.place != "limit"]
    return list(dict.fromkeys(found))


# --- named fields -----------------------------------------------------------------------------------------------------


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _path(written: str) -> str:
    """`body.messages[2].content` → `messages.2.content`."""
    parts = [part for part in re.split(r"[.\[\]/]+", written.strip()) if part]
    while parts and parts[0] in ("body", "json", "request", "$", "query", "data"):
        parts = parts[1:]
    return ".".join(parts)


def _at_path(candidates: Sequence[RequestChange], path: str) -> list[RequestChange]:
    first, *below = path.split(".")
    named = [part for part in below if not part.isdigit()]
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


def _candidates(body: dict[str, object]) -> list[RequestChange]:
    """Return everything in the request that can be dropped, at most `_MAX_FIELDS`."""
    return list(dict.fromkeys(islice(_droppable(body), _MAX_READ)))[:_MAX_FIELDS]


def _droppable(body: dict[str, object]) -> Iterator[RequestChange]:
    yield from (RequestChange("request", name) for name in body if name not in _KEPT)
    yield from (RequestChange("limit", name) for name in LIMITS if name in body)
    if isinstance(choice := body.get("tool_choice"), str):
        yield RequestChange("choice", choice)
    for message in _dicts(body.get("messages")):
        yield from (RequestChange("message", name) for name in message if name not in _OF_MESSAGES)
        for inner in _inner(message):
            yield from (RequestChange("message", name) for name in inner if name not in {*_OF_MESSAGES, "name"})
    for function in _functions(body):
        yield from (RequestChange("function", name) for name in function if name == "strict")
        for schema in _schemas(function.get("parameters"), []):
            yield from (RequestChange("schema", name) for name in schema if name not in _OF_SCHEMAS)


def _sent_back(body: dict[str, object], text: str) -> list[RequestChange]:
    """Return the engine's own fields that go back to it (see `chains.extra_fields`); empty if the text names one."""
    turns = [message for message in _dicts(body.get("messages")) if message.get("role") == "assistant"]
    own = [change for change in _candidates({"messages": turns}) if change.name != "name"]
    lowered = FieldMention.fold(text)
    return [] if any(FieldMention.find(change.name, text, lowered) for change in own) else own


def _named_in_text(candidates: Sequence[RequestChange], text: str, sent: RequestText) -> list[RequestChange]:
    """Return the fields that the text refuses in known words; if there are none, those that it names alone."""
    lowered = FieldMention.fold(text)
    named: list[tuple[RequestChange, FieldMention]] = []
    for change in candidates:
        name = "tool_choice" if change.place == "choice" else change.name
        if (mention := FieldMention.find(name, text, lowered)) is not None:
            named.append((change, mention))
        if len(named) == _MAX_NAMED:
            break
    sure = [(change, mention) for change, mention in named if not mention.is_offered and not mention.is_wanted]
    for find_starts in (FieldMention.refused_at, FieldMention.named_at):
        if found := [change for change, mention in sure if _is_unquoted(mention, find_starts(mention), text, sent)]:
            # Many refusals of a schema contain a property with the name of a field.
            return [change for change in found if not sent.has_name(change.name)] or found
    return []


def _is_unquoted(mention: FieldMention, starts: Sequence[int], text: str, sent: RequestText) -> bool:
    """Whether the server itself names the field at one of these positions, rather than quoting the request."""
    return any(not sent.is_quoted(text, start, start + len(mention.name)) for start in starts)


def _content_change(body: dict[str, object], paths: Sequence[str], text: str) -> RequestChange | None:
    """Return a change for assistant messages with calls only: some servers require empty content, some none."""
    calling = [message for message in _dicts(body.get("messages")) if message.get("tool_calls")]
    contents = [message["content"] for message in calling if "content" in message]
    named = any(re.fullmatch(r"messages\.(?:.*\.)?content", path) for path in paths) or _CONTENT.search(text)
    if not named or not any(content in (None, "") for content in contents):
        return None
    return RequestChange("content", "empty" if None in contents else "absent")


def _for_value(change: RequestChange, body: dict[str, object]) -> RequestChange:
    if change.place != "request" or change.name == "stream" or change.name not in body:
        return change
    return RequestChange("request", change.name, orjson.dumps(body[change.name]).decode())


def _dicts(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _functions(body: dict[str, object]) -> list[dict[str, object]]:
    return _dicts([tool.get("function") for tool in _dicts(body.get("tools"))])


def _inner(message: dict[str, object]) -> Iterator[dict[str, object]]:
    """Yield the objects in a message: content parts and calls, and the objects in these."""
    for part in (*_dicts(message.get("content")), *_dicts(message.get("tool_calls"))):
        yield part
        yield from _dicts([part.get("image_url"), part.get("function")])


def _schemas(schema: object, found: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return every schema in a schema."""
    nodes = [schema]
    for node in nodes:
        if len(nodes) > _MAX_NODES:
            break
        if isinstance(node, list):
            nodes += node
        elif isinstance(node, dict):
            found.append(node)
            for key, value in node.items():
                nodes += value.values() if key in NAMED_CHILDREN and isinstance(value, dict) else [value]
    return found
