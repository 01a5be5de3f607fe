"""The operations of an OpenAPI document: one `Operation` for each method of each path, with a flat object schema.

Rule for names: an argument has the name of its parameter or body property. If several have the same name, the first of
path, query, header, cookie, body keeps it. The others get their location as a prefix: `query_id`, `body_id` (then
`body_id_2` …). A body that is not an object with named properties is one argument, `body`.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from chains.chat_types import FunctionTool
from graphs.tools.bodies import Body, FieldOf, read_body
from graphs.tools.credentials import Credentials
from graphs.tools.document import ErrorFactory
from graphs.tools.pointers import Pointer, format_pointer
from graphs.tools.schemas import Inliner
from graphs.tools.servers import server_url
from wire.json import JsonObject

__all__ = ["MAX_OPERATIONS", "Field", "Operation", "ParameterLocation", "build_parameters", "read_operations"]

MAX_OPERATIONS = 128
MAX_DESCRIPTION = 1_024
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

ParameterLocation = Literal["path", "query", "header", "cookie"]
_LOCATIONS: tuple[ParameterLocation, ...] = ("path", "query", "header", "cookie")
_STYLES = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}
# OpenAPI requires that parameters with the first three names are ignored; the HTTP library sets the others.
_OWN_HEADERS = frozenset(
    {"accept", "content-type", "authorization", "host", "connection", "content-length", "transfer-encoding"}
    | {"te", "trailer", "upgrade", "expect", "proxy-authorization", "accept-encoding", "idempotency-key"}
)


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter: the location of its value, and its serialization there."""

    argument: str
    name: str
    location: ParameterLocation
    style: str
    explode: bool
    schema: JsonObject
    required: bool
    description: str | None = None
    json: bool = False  # `content` instead of `schema`: the value is sent as JSON text
    reserved: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One API call that the model can request of this server; `credentials` are never shown."""

    name: str
    description: str
    parameters: JsonObject
    is_consequential: bool
    method: str
    server: str
    path: str
    fields: tuple[Field, ...] = ()
    body: Body | None = None
    credentials: Credentials = field(default=Credentials(), repr=False)
    written: int = field(default=0, compare=False)
    """Characters of `parameters` as JSON, set by `counted`."""

    def counted(self) -> "Operation":
        """Return this operation with the length of its parameters set. This takes as long as encoding them."""
        return replace(self, written=len(json.dumps(self.parameters)))

    def spec(self) -> FunctionTool:
        """Return the function tool that the model sees."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }

    def bound(self, credentials: Credentials, *, is_consequential: bool | None) -> "Operation":
        """Return this operation with its secrets; the parameters that they provide are removed from the arguments."""
        left = tuple(each for each in self.fields if not credentials.provide(each.location, each.name))
        changed = replace(self, credentials=credentials)
        if len(left) < len(self.fields):
            changed = replace(changed, fields=left, parameters=build_parameters(left, self.body)).counted()
        return changed if is_consequential is None else replace(changed, is_consequential=is_consequential)


def read_operations(document: JsonObject, *, base_url: str | None, refuse: ErrorFactory) -> tuple[Operation, ...]:
    """Return the operations of a document from `read_document`, in its order; names can still repeat."""
    inliner = Inliner(document, refuse)
    operations: list[Operation] = []
    for path, item in (document.get("paths") or {}).items():
        if not path.startswith("/"):
            continue  # an `x-` extension
        item = inliner.resolve(item)
        for method in METHODS:
            if method not in item:
                continue
            if len(operations) == MAX_OPERATIONS:
                raise refuse(f"the document has more than {MAX_OPERATIONS} operations")
            reader = _Reader(inliner, refuse, document, base_url)
            operations.append(reader.operation(path, method, item))
    if not operations:
        raise refuse("`#/paths` has no operation")
    return tuple(operations)


@dataclass(frozen=True)
class _Reader:
    inliner: Inliner
    refuse: ErrorFactory
    document: JsonObject
    base_url: str | None

    def operation(self, path: str, method: str, item: JsonObject) -> Operation:
        pointer: Pointer = ("paths", path, method)
        node = self.inliner.resolve(item[method])
        fields = self._fields(item, node, pointer)
        missing = set(re.findall(r"\{([^{}]+)\}", path)) - {each.name for each in fields if each.location == "path"}
        if missing:
            raise self.refuse(
                f"`{format_pointer(pointer)}` has no path parameter `{min(missing)}`, which its path names"
            )
        taken = {each.argument for each in fields}
        body = read_body(self.inliner, node.get("requestBody"), taken=taken, pointer=(*pointer, "requestBody"))
        servers = node.get("servers") or item.get("servers") or self.document.get("servers") or []
        return Operation(
            name=str(node.get("operationId") or f"{method}_{path}"),
            description=_describe(node, item, f"{method.upper()} {path}"),
            parameters=build_parameters(fields, body),
            is_consequential=self._is_consequential(node, item),
            method=method.upper(),
            server=server_url(servers, base_url=self.base_url, pointer=pointer, refuse=self.refuse),
            path=path,
            fields=fields,
            body=body,
        )

    def _is_consequential(self, *nodes: JsonObject) -> bool:
        for node in (*nodes, self.document):
            if isinstance(flag := node.get("x-openai-isConsequential"), bool):
                return flag
        return False

    def _fields(self, item: JsonObject, node: JsonObject, pointer: Pointer) -> tuple[Field, ...]:
        found: dict[tuple[str, str], tuple[JsonObject, Pointer]] = {}
        for owner, where in ((item, pointer[:-1]), (node, pointer)):
            for index, parameter in enumerate(owner.get("parameters") or []):
                parameter = self.inliner.resolve(parameter)
                if parameter["in"] == "header" and parameter["name"].lower() in _OWN_HEADERS:
                    continue
                # An operation's own parameter replaces the path's parameter with the same name and location.
                found[parameter["in"], parameter["name"]] = parameter, (*where, "parameters", index)
        fields: list[Field] = []
        taken: set[str] = set()
        for location in _LOCATIONS:
            for parameter, where in found.values():
                if parameter["in"] == location:
                    fields.append(self._field(parameter, location, taken, where))
                    taken.add(fields[-1].argument)
        return tuple(fields)

    def _field(self, parameter: JsonObject, location: ParameterLocation, taken: set[str], pointer: Pointer) -> Field:
        content = parameter.get("content")
        written = next(iter(content.values())).get("schema", {}) if content else parameter.get("schema", {})
        style = parameter.get("style", _STYLES[location])
        return Field(
            argument=free_name(parameter["name"], location, taken),
            name=parameter["name"],
            location=location,
            style=style,
            explode=parameter.get("explode", style == "form"),
            schema=self.inliner.schema(written, (*pointer, "schema")),
            required=location == "path" or parameter.get("required") is True,
            description=parameter.get("description"),
            json=bool(content),
            reserved=parameter.get("allowReserved") is True,
        )


def free_name(name: str, location: str, taken: Iterable[str]) -> str:
    """Return `name`, or a name with its location as a prefix that is not `taken`."""
    if name not in taken:
        return name
    candidate, count = f"{location}_{name}", 1
    while candidate in taken:
        count += 1
        candidate = f"{location}_{name}_{count}"
    return candidate


def _describe(node: JsonObject, item: JsonObject, fallback: str) -> str:
    parts: list[str] = []
    for key in ("summary", "description"):
        text = str(node.get(key) or item.get(key) or "").strip()
        if text and text not in parts:
            parts.append(text)
    text = "\n\n".join(parts) or fallback
    return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"


def build_parameters(fields: tuple[Field, ...], body: Body | None) -> JsonObject:
    """Return the schema of an operation's arguments: an object with a property for each field and part of the body."""
    properties: JsonObject = {}
    required: list[str] = []
    entries: list[Field | FieldOf] = [*fields, *(body.fields if body else ())]
    for each in entries:
        schema = each.schema
        if each.description:
            schema = {**schema, "description": each.description}
        properties[each.argument] = schema
        needed = each.required and (isinstance(each, Field) or (body is not None and body.required))
        if needed and "default" not in schema:
            required.append(each.argument)
    result: JsonObject = {"type": "object", "properties": properties}
    return {**result, "required": required} if required else result
