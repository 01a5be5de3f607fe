"""The OpenAPI document, made true: what FastAPI cannot know of the routes is added to what it has found out.

Laws: every status that a route may answer is in it, with OpenAI's error shape, and no other; an object that one route
makes is linked to the routes that take its id, so that a machine can find its way. Made when it is first asked for;
no request is validated by it, and no answer.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.forwarding import FORWARDED

__all__ = ["complete", "install"]

_METHODS: Final = ("get", "post", "delete")

_MEANINGS: Final = {
    "400": "The request is wrong, or not allowed now; `code` and `param` say where",
    "401": "No API key, or a wrong one; only while API_KEYS is set",
    "403": "The `Host` or `Origin` is not allowed",
    "404": "No such object for this key, or no such route",
    "413": "The body is too long",
    "415": "The body is of the wrong type",
    "429": "A limit of this server; `Retry-After` says when to try again, in seconds",
    "503": "Shutting down, the store takes no writes, or no upstream",
    "507": "This server's disk is full; nothing was changed",
    "default": "The upstream's own answer to what it refused",
}

_TEXT: Final = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
            "properties": {"message": {"type": "string"}, "type": {"type": "string"}, "param": _TEXT, "code": _TEXT},
        }
    },
}

_OPEN: Final = frozenset({"/v1/health", "/v1/ready"})
_LIMITED: Final = frozenset({"create_run", "create_thread_and_run"})
_PASSED_ON: Final = frozenset(
    {"list_models", "get_model", "complete_chat", "create_embeddings", *(one.name for one in FORWARDED)}
)
"""Operations that answer what an upstream said."""

_IDS: Final = "$response.body#/id"
_MADE: Final[Mapping[str, Mapping[str, str]]] = {
    "create_assistant": {"assistant_id": _IDS},
    "add_assistant_file": {"assistant_id": "$response.body#/assistant_id", "file_id": _IDS},
    "create_thread": {"thread_id": _IDS},
    "create_message": {"thread_id": "$response.body#/thread_id", "message_id": _IDS},
    "create_run": {"thread_id": "$response.body#/thread_id", "run_id": _IDS},
    "create_thread_and_run": {"thread_id": "$response.body#/thread_id", "run_id": _IDS},
    "list_steps": {
        "thread_id": "$response.body#/data/0/thread_id",
        "run_id": "$response.body#/data/0/run_id",
        "step_id": "$response.body#/data/0/id",
    },
    "create_file": {"file_id": _IDS},
    "create_upload": {"upload_id": _IDS},
    "create_vector_store": {"vector_store_id": _IDS},
    "add_store_file": {"vector_store_id": "$response.body#/vector_store_id", "file_id": _IDS},
    "create_batch": {"vector_store_id": "$response.body#/vector_store_id", "batch_id": _IDS},
}
"""What an operation's good answer says: path parameter → where it stands. Bodies that name an id are linked below."""

_NAMED: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "create_assistant": (("create_run", "assistant_id"), ("create_thread_and_run", "assistant_id")),
    "create_file": (("add_store_file", "file_id"), ("add_assistant_file", "file_id")),
}
"""Operations whose body names the id of what this one has made, and how."""


def install(app: FastAPI) -> None:
    """Let the app describe itself so, where FastAPI's own document is asked for.

    It is made in a thread: that takes 0.4 s, once, and nothing else would be answered meanwhile.
    """
    found = app.openapi
    making = asyncio.Lock()
    written: list[bytes] = []
    made: dict[str, Any] = {}

    def describe() -> dict[str, Any]:
        if not made:
            made.update(complete(found()))
        return made

    def write() -> None:
        written.append(orjson.dumps(app.openapi()))

    async def tell(_: Request) -> Response:
        async with making:
            if not written:
                await asyncio.to_thread(write)
        return Response(written[0], media_type="application/json")

    app.openapi = describe  # type: ignore[method-assign]
    app.router.routes.insert(0, Route(str(app.openapi_url), tell, include_in_schema=False))  # before FastAPI's


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Return FastAPI's document with every status, links and the key; it is changed in place."""
    operations = {}
    for path, method, operation in _operations(document):
        _tell_errors(path, method, operation)
        operations[operation["operationId"]] = operation
    for name, places in _MADE.items():
        _link(operations, name, places)
    schemas = document["components"]["schemas"]
    for operation in operations.values():
        _tell_body(operation, schemas)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Error"] = _ERROR
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "One of API_KEYS; any or none while it is empty"}
    }
    document["security"] = [{"key": []}, {}]
    return document


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _tell_errors(path: str, method: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    answers.pop("422", None)  # FastAPI's own; ours are 400
    if path in _OPEN:
        operation["security"] = []
    for status in _statuses(path, method, operation):
        answers.setdefault(status, _problem(status))


def _statuses(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    name = operation["operationId"]
    yield "403"
    if path in _OPEN:
        return
    yield from ("400", "401", "503")
    # An id may also be in the query (a cursor) or in the body; what names none at all cannot miss it.
    if "{" in path or "requestBody" in operation:
        yield "404"
    if method != "get":
        yield from ("413", "415", "507")
    if name in _LIMITED:
        yield "429"
    if name in _PASSED_ON:
        yield "default"


def _problem(status: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": _MEANINGS[status],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    if status == "429":
        told["headers"] = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
    return told


def _tell_body(operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    """An empty body is `{}`, so it may be left away where that is good."""
    body = operation.get("requestBody")
    if body is not None and (schema := body["content"].get("application/json", {}).get("schema")) is not None:
        name = schema.get("$ref", "").rpartition("/")[2]
        body["required"] = bool(schemas.get(name, schema).get("required"))


def _link(operations: Mapping[str, dict[str, Any]], name: str, places: Mapping[str, str]) -> None:
    maker = operations[name]
    newest = [*places][-1]  # what has just been made; the others are where it is
    links = maker["responses"]["200"].setdefault("links", {})
    for other, operation in operations.items():
        wanted = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        if newest in wanted and wanted <= places.keys():
            links[other] = {"operationId": other, "parameters": {f"path.{one}": places[one] for one in sorted(wanted)}}
    for other, param in _NAMED.get(name, ()):
        links[other] = {"operationId": other, "requestBody": {param: _IDS}}
