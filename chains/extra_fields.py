"""Fields of an assistant turn that its engine requires back with the turn's tool calls. Pure, except for one log line.

Thinking engines refuse the outputs of calls if the turn lacks the fields that they sent with it: DeepSeek's
`reasoning_content`, OpenRouter's `reasoning_details`, Gemini's `extra_content` on a call. Every unknown field is sent
back unchanged, whatever its name. Invariants: a field goes only to the engine and model that sent it; it is neither
logged nor shown to clients; a reply keeps at most `MAX_CHARS` characters of them, and `_MAX_ENTRIES` entries of a list;
merging takes linear time. Some engines refuse fields that they sent, such as Groq's `channel`: `Negotiation` omits
those.

Between the rounds of a run the fields are JSON text in the `additional_kwargs` of the turn's AIMessage, under
`EXTRA_FIELDS`: `{"source", "message": {field: value}, "calls": {id: {field: value}}}`. Text can always be checkpointed.
A turn of another LangChain model keeps `{"source", "content": [block], "beside": {field: value}}`
(see `chains.native_replies`).
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import orjson
from langchain_core.messages import BaseMessage

from chains.chat_types import RequestCall, RequestMessage, Sent

__all__ = [
    "EXTRA_FIELDS",
    "MAX_CHARS",
    "ExtraFields",
    "engine_id",
    "extra_fields",
    "replace_call",
    "restore",
    "serialize_fields",
]

EXTRA_FIELDS: Final = "threadhold_extra_fields"
"""Key of `additional_kwargs`."""

MAX_CHARS: Final = 1_048_576

_MAX_ENTRIES: Final = 10_000
"""Maximum entries of one list."""
_MAX_ALIKE: Final = 4
"""A new entry of a list is compared with at most this many entries of the same `index`, the newest first."""
_MAX_SERIALIZATIONS: Final = 16
"""Maximum serializations of one reply's fields: some servers send fields after the finish reason."""

_MESSAGE: Final = frozenset({"role", "content", "refusal", "tool_calls", "function_call", "annotations", "audio"})
"""Fields of an assistant message that OpenAI defines: other code sends them back, or they are not needed."""
_CALL: Final = frozenset({"index", "id", "type", "function"})
_FUNCTION: Final = frozenset({"name", "arguments"})
_LABELS: Final = frozenset({"type", "index", "id", "format", "name", "role", "object", "status", "channel", "model"})
"""Strings under these names are labels that servers repeat in every chunk; all others are concatenated."""

_log = logging.getLogger("threadhold.chains")


class _LimitExceeded(Exception):
    """A reply has more extra fields than the limits allow."""


class _Pieces(list[str]):
    """A string that is streamed in pieces."""


class _Entries(list[object]):
    """A list that is streamed in pieces, whose entries can be found by their `index`."""

    def __init__(self, entries: list[object]) -> None:
        super().__init__()
        self._by_index: defaultdict[int, list[dict[str, object]]] = defaultdict(list)
        self.merge(entries, copied=True)

    def merge(self, entries: list[object], *, copied: bool = False) -> None:
        """Add entries, or merge them into existing ones; all of them are new entries if they are `copied`."""
        for entry in entries:
            if not copied and (same := self._like(entry)) is not None:
                _joined(same, entry, "")
                continue
            if len(self) == _MAX_ENTRIES:
                raise _LimitExceeded
            copy = _copy(entry)
            self.append(copy)
            if (index := _index_of(copy)) is not None and isinstance(copy, dict):
                self._by_index[index].append(copy)

    def _like(self, new: object) -> dict[str, object] | None:
        """Return the existing entry to merge a new one into: it has the same index, and the same type and id if both
        have them."""
        index = _index_of(new)
        if index is None or index not in self._by_index or not isinstance(new, dict):
            return None
        for entry in reversed(self._by_index[index][-_MAX_ALIKE:]):
            if _agree(entry.get("type"), new.get("type")) and _agree(entry.get("id"), new.get("id")):
                return entry
        return None


class ExtraFields:
    """The unknown fields of one streamed reply."""

    def __init__(self, url: str, model: str) -> None:
        """`url` and `model`: the engine that the reply comes from."""
        self._source = engine_id(url, model)
        self._model = model
        self._message: Sent = {}
        self._calls: dict[int, Sent] = {}
        self._chars = 0
        self._is_kept = True
        self._has_more = False
        self._serializations = 0

    def add(self, delta: Sent, *, whole: bool = False) -> None:
        """Add a delta's fields; those of a `whole` message replace what was streamed of them."""
        self._merge(self._message, delta, _MESSAGE, whole=whole)

    def add_call(self, number: int, call: Sent, *, whole: bool = False) -> None:
        """Add the fields of a fragment of call `number`."""
        function = call.get("function")
        kept = self._calls.setdefault(number, {})
        self._merge(kept, call, _CALL if function else _CALL | _FUNCTION, whole=whole)
        if isinstance(function, dict) and function.keys() - _FUNCTION:
            self._merge(kept.setdefault("function", {}), function, _FUNCTION, whole=whole)

    def to_json(self, ids: Sequence[str]) -> str | None:
        """Return the fields as JSON text; `ids` are those of the calls. None if there are no calls, or no new fields
        since the previous call."""
        if not self._has_more or self._serializations == _MAX_SERIALIZATIONS:
            return None
        calls = {id: fields for number, id in enumerate(ids) if (fields := self._calls.get(number))}
        if not self._is_kept or not ids or not (self._message or calls):
            return None
        self._has_more = False
        self._serializations += 1
        return serialize_fields({"source": self._source, "message": self._message, "calls": calls}, self._model)

    def _merge(self, kept: Sent, fields: Sent, known: frozenset[str], *, whole: bool) -> None:
        if not self._is_kept or fields.keys() <= known:
            return
        try:
            for name, value in fields.items():
                if name not in known and value is not None:
                    self._count(value)
                    self._has_more = True
                    kept[name] = _copy(value) if whole or name not in kept else _joined(kept[name], value, name)
        except (_LimitExceeded, RecursionError, TypeError):
            self._is_kept = False
            self._message.clear()
            self._calls.clear()
            _warn(self._model)

    def _count(self, value: object) -> None:
        self._chars += len(value) if isinstance(value, str) else len(orjson.dumps(value))
        if self._chars > MAX_CHARS:
            raise _LimitExceeded


def _copy(value: object) -> object:
    if isinstance(value, str):
        return _Pieces([value])
    if isinstance(value, dict):
        return {name: _copy(each) for name, each in value.items()}
    return _Entries(value) if isinstance(value, list) else value


def _joined(old: object, new: object, name: str) -> object:
    """Merge as OpenAI's SDK accumulates deltas: strings are concatenated, objects merged, lists merged by `index`."""
    if isinstance(old, _Pieces) and isinstance(new, str) and not _is_label(name):
        old.append(new)
        return old
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in new.items():
            if value is not None:
                old[key] = _joined(old[key], value, key) if key in old else _copy(value)
        return old
    if isinstance(old, _Entries) and isinstance(new, list):
        old.merge(new)
        return old
    return _copy(new)


def _is_label(name: str) -> bool:
    return name in _LABELS or name.endswith(("_id", "_type"))


def _index_of(entry: object) -> int | None:
    index = entry.get("index") if isinstance(entry, dict) else None
    return index if type(index) is int else None


def _agree(one: object, other: object) -> bool:
    """Whether two labels are equal, or one is missing."""
    return one is None or other is None or _text(one) == _text(other)


def _text(value: object) -> str:
    return "".join(value) if isinstance(value, _Pieces) else str(value)


def _to_json(value: object) -> object:
    """Convert what orjson cannot serialize: OPT_PASSTHROUGH_SUBCLASS passes subclasses of list to this function."""
    if isinstance(value, _Pieces):
        return "".join(value)
    if isinstance(value, _Entries):
        return list(value)
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


def serialize_fields(fields: Mapping[str, object], model: str) -> str | None:
    """Return the kept fields of a reply of `model` as text; None if they are too large or not JSON."""
    try:
        text = orjson.dumps(fields, _to_json, orjson.OPT_PASSTHROUGH_SUBCLASS).decode()
    except TypeError:
        return None
    if len(text) > MAX_CHARS:
        _warn(model)
        return None
    return text


def _warn(model: str) -> None:
    _log.warning(
        "model `%s`: the extra fields of a reply with tool calls exceed %d characters or %d entries in a list; they "
        "are not sent back",
        model,
        MAX_CHARS,
        _MAX_ENTRIES,
    )


def extra_fields(message: BaseMessage) -> str:
    """Return the kept fields of a message as text; empty if it has none."""
    text: str = message.additional_kwargs.get(EXTRA_FIELDS, "")
    return text


def restore(messages: list[RequestMessage], kept: Mapping[int, str], *, url: str, model: str) -> list[RequestMessage]:
    """Return messages in OpenAI's form with their `kept` fields, which are keyed by index in the list.

    Fields that another engine or model sent are omitted.
    """
    source = engine_id(url, model)
    restored = list(messages)
    for index, text in kept.items():
        fields = orjson.loads(text)
        if fields["source"] == source:
            message = messages[index]
            calls = [_with_fields(call, fields["calls"].get(call["id"])) for call in message.get("tool_calls", ())]
            restored[index] = {**fields["message"], **message, **({"tool_calls": calls} if calls else {})}
    return restored


def _with_fields(call: RequestCall, fields: Any) -> RequestCall:  # a TypedDict cannot be made of unknown members
    if not fields:
        return call
    return {**fields, **call, "function": {**fields.get("function", {}), **call["function"]}}


def replace_call(text: str, id: str, other: str | None) -> str:
    """Return the kept text, with the fields of call `id` replaced by those of the only call in `other`, its repair."""
    fields, repaired = orjson.loads(text), orjson.loads(other or "{}").get("calls")
    if not repaired or "calls" not in fields:
        return text
    fields["calls"][id] = next(iter(repaired.values()))
    return orjson.dumps(fields).decode()


def engine_id(url: str, model: str) -> str:
    """Return an id for a model at an address: a hash, as addresses may hold secrets."""
    return sha256(f"{url}\n{model}".encode()).hexdigest()[:16]
