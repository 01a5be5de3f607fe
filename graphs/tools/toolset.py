"""Makes functions of the tools of an assistant or run: one per function tool, and one per operation of an action.

OpenAPI documents are read in a child process (`workers`) and cached by content: the tools of a known assistant cost
microseconds.
"""

import hashlib
import json
import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, Final

from chains.prompts import Prompts
from graphs.tools.credentials import read_credentials
from graphs.tools.document import MAX_DOCUMENT_BYTES, Refusal
from graphs.tools.file_search import SearchTool
from graphs.tools.operations import Operation
from graphs.tools.reading import refused, unpack
from graphs.tools.urls import check_url, split_url
from watch.context import acting_owner
from watch.shares import REQUESTS
from wire.errors import InvalidRequest, TooCostly, Unavailable
from wire.validation import shown
from workers import DOCUMENT, workers

__all__ = ["MAX_TOOLS", "NO_TOOLS", "ToolSet", "action_origins", "build_toolset", "make_toolset", "read_ahead"]

MAX_TOOLS = 128  # functions and operations together, as OpenAI has it for `tools`
_MAX_WRITTEN = 2 * 1_048_576
"""Maximum characters of all operations' parameters, as JSON with references expanded. Each model call sends them, and
no model's context has space for more; a short document can expand to megabytes."""
_SEARCH = "file_search"
_READ = "graphs.tools.reading:read_packed"
_UNBUILT = (_SEARCH, "code_interpreter")
_DATA = frozenset({"openapi_spec", "headers", "auth", "is_consequential", "base_url"})


@dataclass(frozen=True, slots=True)
class ToolSet:
    """`specs` goes to the model; `operations` and `search` are carried out here, `functions` by the client, and
    `unbuilt` by nobody."""

    specs: tuple[dict[str, Any], ...]
    operations: dict[str, Operation]
    functions: frozenset[str]
    unbuilt: tuple[str, ...]
    search: SearchTool | None = None

    @property
    def served(self) -> frozenset[str]:
        """The names of what is carried out here."""
        return frozenset([*self.operations, *([] if self.search is None else [self.search.name])])

    @property
    def names(self) -> frozenset[str]:
        """The names of all that the model is offered."""
        return self.functions | self.served

    @property
    def lenient(self) -> frozenset[str]:
        """The client's functions that are not strict: OpenAI handed their arguments on as the model made them."""
        strict = {spec["function"]["name"] for spec in self.specs if spec["function"].get("strict")}
        return self.functions - strict

    def without_search(self) -> "ToolSet":
        """Return the tools but for the search of files."""
        if self.search is None:
            return self
        specs = tuple(spec for spec in self.specs if spec["function"]["name"] != self.search.name)
        return replace(self, specs=specs, search=None)


NO_TOOLS: Final = ToolSet((), {}, frozenset(), ())
"""What the model is offered in the last round."""


async def make_toolset(tools: list[dict[str, Any]], prompts: Prompts | None = None) -> ToolSet:
    """Do what `build_toolset` does without blocking the event loop."""
    if not any(tool["type"] == "action" for tool in tools):
        return build_toolset(tools, prompts)
    await read_ahead(tools)
    return await REQUESTS.run(acting_owner(), build_toolset, tools, prompts)


async def read_ahead(tools: list[dict[str, Any]]) -> None:
    """Read the documents of actions that this process does not know yet. Raises Problem."""
    for index, tool in enumerate(tools):
        if tool["type"] == "action":
            await _DOCUMENTS.read_ahead(tool["data"], f"tools[{index}].data.openapi_spec")


def build_toolset(tools: list[dict[str, Any]], prompts: Prompts | None = None) -> ToolSet:
    """Return what `tools` (as stored with their secrets) offer to a model.

    Functions keep their names; an operation whose name is taken gets `_2`, `_3` … in the order of the tools. With
    actions it blocks: for seconds, while a child reads a large document that is new to this process. `prompts` is
    given if files can be searched.

    Raises:
        InvalidRequest: a document is refused (`tools[0].data.openapi_spec`), or other parts of an action's `data` are.
    """
    functions = [tool["function"] for tool in tools if tool["type"] == "function"]
    taken = {function["name"] for function in functions}
    operations: dict[str, Operation] = {}
    specs: list[dict[str, Any]] = []
    written = 0
    for index, tool in enumerate(tools):
        if tool["type"] == "function":
            specs.append({"type": "function", "function": _with_parameters(tool["function"])})
        elif tool["type"] == "action":
            for operation in _read_action(tool["data"], f"tools[{index}].data"):
                written += operation.written
                if written > _MAX_WRITTEN:
                    raise InvalidRequest(
                        f"The parameters of the operations that `tools` offers have more than {_MAX_WRITTEN} "
                        "characters, with `$ref`s expanded. Use fewer operations, or schemas that repeat less.",
                        param="tools",
                        code="string_above_max_length",
                    )
                named = replace(operation, name=_free(operation.name, taken))
                taken.add(named.name)
                operations[named.name] = named
                specs.append(named.spec())
    if operations and len(specs) > MAX_TOOLS:
        message = f"`tools` offers {len(specs)} functions and operations; at most {MAX_TOOLS} are allowed"
        raise InvalidRequest(message, param="tools", code="array_above_max_length")
    search = None
    searching = next((tool for tool in tools if tool["type"] == _SEARCH), None)
    if searching is not None and prompts is not None:
        search = SearchTool.of(searching, _free(_SEARCH, taken))
        specs.append(search.spec(prompts))
    unbuilt = tuple(name for name in _UNBUILT if any(tool["type"] == name for tool in tools))
    if prompts is not None:
        unbuilt = tuple(name for name in unbuilt if name != _SEARCH)
    called = frozenset(function["name"] for function in functions)
    return ToolSet(tuple(specs), operations, called, unbuilt, search)


def action_origins(data: dict[str, Any]) -> frozenset[str]:
    """Return the origins that an action's operations call. Blocks as `build_toolset` does; raises InvalidRequest."""
    urls = (split_url(operation.server) for operation in _read_action(data, "data"))
    return frozenset(f"{url.scheme}://{url.netloc}".lower() for url in urls)


def _with_parameters(function: dict[str, Any]) -> dict[str, Any]:
    # OpenAI lets a function go without parameters; several upstreams do not.
    if function.get("parameters") is not None:
        return function
    return {**function, "parameters": {"type": "object", "properties": {}}}


def _free(name: str, taken: set[str]) -> str:
    name = re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9_-]", "_", name)).strip("_")[:64] or "call"
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name[: 64 - len(str(count)) - 1]}_{count}"
    return candidate


def _read_action(data: dict[str, Any], param: str) -> list[Operation]:
    for key in data.keys() - _DATA:
        raise InvalidRequest(
            f"Unknown parameter: '{param}.{shown(key)}'.", param=f"{param}.{shown(key)}", code="unknown_parameter"
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
    """Operations by content of their document, least recently used ones forgotten; holds no secrets. Thread-safe."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, tuple[int, tuple[Operation, ...]]] = OrderedDict()
        self._lock = Lock()

    def operations(self, source: Any, base_url: str | None, param: str) -> tuple[Operation, ...]:
        """Return a document's operations; blocks while a child reads one that is not known. Raises InvalidRequest."""
        refuse = partial(_refusal, param)
        key = _key(source, base_url, refuse)
        if (known := self._known(key)) is not None:
            return known
        try:
            packed = workers().call(_READ, source, base_url, budget=DOCUMENT)
        except TooCostly as error:
            raise _told(error, refuse) from None
        return self._keep(key, packed, refuse)

    async def read_ahead(self, data: dict[str, Any], param: str) -> None:
        """Read an action's document, so that `operations` knows it. Raises InvalidRequest."""
        source, base_url = data.get("openapi_spec"), data.get("base_url")
        refuse = partial(_refusal, param)
        key = await REQUESTS.run(acting_owner(), _key, source, base_url, refuse)
        if self._known(key) is not None:
            return
        if base_url is not None and (not isinstance(base_url, str) or check_url(base_url)):
            return  # `build_toolset` reports it
        try:
            packed = await workers().run(_READ, source, base_url, budget=DOCUMENT)
        except TooCostly as error:
            raise _told(error, refuse) from None
        await REQUESTS.run(acting_owner(), self._keep, key, packed, refuse)

    def _known(self, key: bytes) -> tuple[Operation, ...] | None:
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][1]

    def _keep(self, key: bytes, packed: dict[str, Any], refuse: Refusal) -> tuple[Operation, ...]:
        read = unpack(packed, refuse)
        size = sum(operation.written for operation in read)
        with self._lock:
            self._entries[key] = size, read
            while len(self._entries) > self._max_entries or self._size() > self._max_bytes:
                self._entries.popitem(last=False)
        return read

    def _size(self) -> int:
        return sum(size for size, _ in self._entries.values())


def _refusal(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid OpenAPI document in '{param}': {message}.", param=param, code="invalid_value")


def _told(error: TooCostly, refuse: Refusal) -> Exception:
    if error.why == "late":
        return Unavailable(f"The OpenAPI document could not be read now: {error.message}", headers={"Retry-After": "5"})
    return refused(error, refuse)


def _key(source: Any, base_url: Any, refuse: Refusal) -> bytes:
    return hashlib.sha256(f"{base_url}\0".encode("utf-8", "surrogatepass") + _content(source, refuse)).digest()


def _content(source: Any, refuse: Refusal) -> bytes:
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
