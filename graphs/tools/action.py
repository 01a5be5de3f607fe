"""The tool `action`: an API that an OpenAPI document describes. Each of its operations is a function for the model.

A child process parses the documents (`workers`), and the result is cached by content: the tools of a known assistant
cost microseconds.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from fairness.fair_limits import REQUESTS
from fairness.owned_cache import OwnedCache
from graphs.machine.stream_parts import Call
from graphs.tools.action_previews import preview_call
from graphs.tools.credentials import read_credentials
from graphs.tools.document import MAX_DOCUMENT_BYTES, ErrorFactory
from graphs.tools.document_worker import operations_from_json, refused
from graphs.tools.lazy_caller import CALLER, Caller
from graphs.tools.names import free_name
from graphs.tools.operations import Operation
from graphs.tools.port import CallInput, Kind, Offer, Outcome, PreviewCall, ServerTool, Tools
from graphs.tools.resources import ToolContext
from graphs.tools.urls import check_url, split_url
from telemetry.context import current_owner
from wire.errors import BudgetExceeded, InvalidRequest, Unavailable
from wire.json import Json, JsonObject
from wire.validation import truncated
from workers import DOCUMENT, workers

__all__ = ["ACTION", "ActionTool", "operations_of"]

_MAX_WRITTEN: Final = 2 * 1_048_576
"""Maximum characters of all operations' parameters, as JSON with references expanded. Each model call sends them, and
no model's context has space for more; a short document can expand to megabytes."""

_READ: Final = "graphs.tools.document_worker:parse_to_json"
_DATA: Final = frozenset({"openapi_spec", "headers", "auth", "is_consequential", "base_url"})


@dataclass(frozen=True, slots=True)
class ActionTool:
    """One operation of an action."""

    operation: Operation
    caller: Caller | None
    """None if the tool is only validated."""
    step_type: str = "function"
    label: str = "action"
    returns_passages: bool = False

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.operation.name

    @property
    def preview(self) -> PreviewCall | None:
        """The request of a consequential operation."""
        return partial(preview_call, self.operation) if self.operation.is_consequential else None

    def arguments_for(self, _: str, /) -> str | None:
        """Return None: only a model calls APIs."""
        return None

    async def call(self, call: Call, _: CallInput, /) -> Outcome:
        """Send the request."""
        assert self.caller is not None, "a run's tools have a caller"
        return Outcome(await self.caller.call(self.operation, call["arguments"], call_id=call["id"]))


async def _prepare(tools: Tools, _: ToolContext) -> None:
    """Parse the documents that this process does not know yet."""
    for index, tool in tools:
        await _DOCUMENTS.read_ahead(tool["data"], f"tools[{index}].data.openapi_spec")


def _offer(tools: Tools, context: ToolContext, taken: set[str]) -> list[Offer]:
    """Offer each operation. If its name is taken, it gets `_2`, `_3` … in the order of the tools.

    Raises:
        InvalidRequest: a document (`tools[0].data.openapi_spec`) or another part of an action's `data` is invalid.
    """
    offers: list[Offer] = []
    written = 0
    for index, tool in tools:
        for operation in _read_action(tool["data"], f"tools[{index}].data"):
            written += operation.written
            if written > _MAX_WRITTEN:
                raise InvalidRequest(
                    f"The parameters of the operations that `tools` offers have more than {_MAX_WRITTEN} "
                    "characters, with `$ref`s expanded. Use fewer operations, or schemas that repeat less.",
                    param="tools",
                    code="string_above_max_length",
                )
            named = replace(operation, name=free_name(operation.name, taken))
            offers.append(Offer(index, named.spec(), ActionTool(named, context.get(CALLER))))
    return offers


def _origins(tool: JsonObject) -> frozenset[str]:
    urls = (split_url(operation.server) for operation in _read_action(tool["data"], "data"))
    return frozenset(f"{url.scheme}://{url.netloc}".lower() for url in urls)


ACTION: Final = Kind(_offer, _prepare, origins=_origins, blocks=True, resource=CALLER)
"""APIs. Offering them blocks for seconds while a child process parses a large document that is not cached."""


def operations_of(served: Mapping[str, ServerTool]) -> dict[str, Operation]:
    """Return the operations among a run's tools, by the names that the model is offered."""
    return {name: tool.operation for name, tool in served.items() if isinstance(tool, ActionTool)}


def _read_action(data: JsonObject, param: str) -> list[Operation]:
    for key in data.keys() - _DATA:
        raise InvalidRequest(
            f"Unknown parameter: '{param}.{truncated(key)}'.",
            param=f"{param}.{truncated(key)}",
            code="unknown_parameter",
        )
    flag = data.get("is_consequential")
    if flag is not None and not isinstance(flag, bool):
        where = f"{param}.is_consequential"
        raise InvalidRequest(f"Invalid type for '{where}': expected a boolean.", param=where, code="invalid_type")
    credentials = read_credentials(data, param=param)
    base_url = data.get("base_url")
    if base_url is not None:
        problem = check_url(base_url) if isinstance(base_url, str) else "is not a string"
        if problem:
            where = f"{param}.base_url"
            raise InvalidRequest(f"Invalid value: '{where}' {problem}.", param=where, code="invalid_value")
    read = _DOCUMENTS.operations(data.get("openapi_spec"), base_url, f"{param}.openapi_spec")
    return [operation.bound(credentials, is_consequential=flag) for operation in read]


class _Documents:
    """The operations of each owner's documents, by the documents' content; has no secrets. Thread-safe."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._cache: OwnedCache[bytes, tuple[Operation, ...]] = OwnedCache(max_entries=max_entries, max_size=max_bytes)

    def operations(self, source: Json, base_url: str | None, param: str) -> tuple[Operation, ...]:
        """Return a document's operations; blocks while a child parses an unknown one. Raises InvalidRequest."""
        refuse = partial(_refusal, param)
        key = _key(source, base_url, refuse)
        if (known := self._cache.get(current_owner(), key)) is not None:
            return known
        try:
            packed = workers().call(_READ, source, base_url, budget=DOCUMENT)
        except BudgetExceeded as error:
            raise _too_costly(error, refuse) from None
        return self._keep(key, packed, refuse)

    async def read_ahead(self, data: JsonObject, param: str) -> None:
        """Parse an action's document, so that `operations` finds it cached. Raises InvalidRequest."""
        source, base_url = data.get("openapi_spec"), data.get("base_url")
        refuse = partial(_refusal, param)
        key = await REQUESTS.run(current_owner(), _key, source, base_url, refuse)
        if self._cache.get(current_owner(), key) is not None:
            return
        if base_url is not None and (not isinstance(base_url, str) or check_url(base_url)):
            return  # `build_toolset` reports it
        try:
            packed = await workers().run(_READ, source, base_url, budget=DOCUMENT)
        except BudgetExceeded as error:
            raise _too_costly(error, refuse) from None
        await REQUESTS.run(current_owner(), self._keep, key, packed, refuse)

    def _keep(self, key: bytes, packed: JsonObject, refuse: ErrorFactory) -> tuple[Operation, ...]:
        read = operations_from_json(packed, refuse)
        self._cache.put(current_owner(), key, read, _length(read))
        return read


def _length(operations: Sequence[Operation]) -> int:
    """Return the number of characters that operations hold; those of one document share its servers."""
    texts = [text for each in operations for text in (each.name, each.description, each.path)]
    servers = {each.server for each in operations}
    return sum(each.written for each in operations) + sum(map(len, [*texts, *servers]))


def _refusal(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid OpenAPI document in '{param}': {message}.", param=param, code="invalid_value")


def _too_costly(error: BudgetExceeded, refuse: ErrorFactory) -> Exception:
    if error.why == "late":
        return Unavailable(f"The OpenAPI document could not be read now: {error.message}", headers={"Retry-After": "5"})
    return refused(error, refuse)


def _key(source: Json, base_url: Json, refuse: ErrorFactory) -> bytes:
    return hashlib.sha256(f"{base_url}\0".encode("utf-8", "surrogatepass") + _content(source, refuse)).digest()


def _content(source: Json, refuse: ErrorFactory) -> bytes:
    if isinstance(source, str):
        text = source
    elif isinstance(source, dict):
        try:
            text = json.dumps(source, ensure_ascii=False)
        except (RecursionError, TypeError, ValueError):
            raise refuse("the object is not JSON, or nests too deeply") from None
    else:
        raise refuse("it is neither text nor an object")
    content = text.encode("utf-8", "surrogatepass")
    if len(content) > MAX_DOCUMENT_BYTES:
        raise refuse(f"the document has {len(content)} bytes; at most {MAX_DOCUMENT_BYTES} are allowed")
    return b"%s\0%s" % (type(source).__name__.encode(), content)


_DOCUMENTS = _Documents(max_entries=64, max_bytes=8 * MAX_DOCUMENT_BYTES)
