"""The OpenAPI document: FastAPI's own, plus what FastAPI cannot know about the routes.

Invariants: a route lists exactly the statuses that it can answer, with OpenAI's error shape. A route that creates an
object links to the routes that accept its id, so that programs can follow them. The document is made at the first
request for it, and validates neither requests nor answers.
"""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.forwarding import FORWARDED

__all__ = ["complete", "install"]

Document: TypeAlias = dict[str, Any]
"""FastAPI's OpenAPI document of our routes, or an object in it. FastAPI types it like this."""

_METHODS: Final = ("get", "post", "delete")

_MEANINGS: Final = {
    "400": "The request is invalid, or not allowed now; `code` and `param` say where",
    "401": "No API key, or an incorrect one; only while the server requires keys",
    "403": "The `Host` or `Origin` is not allowed, or the key lacks a scope",
    "404": "No such object for this key, or no such route",
    "413": "The body is too long",
    "415": "The body has the wrong type",
    "429": "A limit of this server; `Retry-After` says when to try again, in seconds",
    "503": "The server is shutting down, its store accepts no writes, or there is no upstream",
    "507": "This server's disk is full; nothing was changed",
    "default": "The upstream's own error",
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
"""Operations that return an upstream's answer."""

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
"""Operation → path parameter → its location in the answer. Operations that take an id in the body are listed below."""

_NAMED: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "create_assistant": (("create_run", "assistant_id"), ("create_thread_and_run", "assistant_id")),
    "create_file": (("add_store_file", "file_id"), ("add_assistant_file", "file_id")),
}
"""Operation → the operations whose body takes the new object's id, with the name of the field."""


def install(app: FastAPI) -> None:
    """Replace FastAPI's document of the app.

    A thread makes the document once, because this takes 0.4 s, in which the event loop would answer nothing else.
    """
    found = app.openapi
    lock, making = asyncio.Lock(), threading.Lock()
    written: list[bytes] = []
    made: Document = {}

    def describe() -> Document:
        if not made:
            made.update(complete(found()))
        return made

    def write() -> None:
        with making:  # a client that leaves does not stop its thread, and the next one waits for it here
            if not written:
                written.append(orjson.dumps(app.openapi()))

    async def respond(_: Request) -> Response:
        if not written:
            async with lock:  # all others wait without a thread
                if not written:
                    await asyncio.to_thread(write)
        return Response(written[0], media_type="application/json")

    app.openapi = describe  # type: ignore[method-assign]
    app.router.routes.insert(0, Route(str(app.openapi_url), respond, include_in_schema=False))  # before FastAPI's


def complete(document: Document) -> Document:
    """Add every status, the links and the key to FastAPI's document, and return it; it is changed in place."""
    operations = {}
    for path, method, operation in _operations(document):
        _add_errors(path, method, operation)
        operations[operation["operationId"]] = operation
    for name, places in _MADE.items():
        _link(operations, name, places)
    schemas = document["components"]["schemas"]
    for operation in operations.values():
        _mark_optional_body(operation, schemas)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Error"] = _ERROR
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "Any or none while the server requires no keys"}
    }
    document["security"] = [{"key": []}, {}]
    return document


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _add_errors(path: str, method: str, operation: Document) -> None:
    answers = operation["responses"]
    answers.pop("422", None)  # FastAPI's own; ours are 400
    if path in _OPEN:
        operation["security"] = []
    for status in _statuses(path, method, operation):
        answers.setdefault(status, _problem(status))


def _statuses(path: str, method: str, operation: Document) -> Iterator[str]:
    name = operation["operationId"]
    yield "403"
    if path in _OPEN:
        return
    yield from ("400", "401", "503")
    # Ids can be in the path or in the body; requests without an id cannot fail to find an object.
    if "{" in path or "requestBody" in operation:
        yield "404"
    if method != "get":
        yield from ("413", "415", "507")
    if name in _LIMITED:
        yield "429"
    if name in _PASSED_ON:
        yield "default"


def _problem(status: str) -> Document:
    response: Document = {
        "description": _MEANINGS[status],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    if status == "429":
        response["headers"] = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
    return response


def _mark_optional_body(operation: Document, schemas: Document) -> None:
    """Mark a body as optional if it has no required fields: an empty body counts as `{}`."""
    body = operation.get("requestBody")
    if body is not None and (schema := body["content"].get("application/json", {}).get("schema")) is not None:
        name = schema.get("$ref", "").rpartition("/")[2]
        body["required"] = bool(schemas.get(name, schema).get("required"))


def _link(operations: Mapping[str, Document], name: str, places: Mapping[str, str]) -> None:
    maker = operations[name]
    newest = [*places][-1]  # the id of the new object; the others are those of its parents
    links = maker["responses"]["200"].setdefault("links", {})
    for other, operation in operations.items():
        wanted = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        if newest in wanted and wanted <= places.keys():
            links[other] = {"operationId": other, "parameters": {f"path.{one}": places[one] for one in sorted(wanted)}}
    for other, param in _NAMED.get(name, ()):
        links[other] = {"operationId": other, "requestBody": {param: _IDS}}
