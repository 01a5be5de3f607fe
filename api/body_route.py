"""Routes whose body is a wire model: a body that the model refuses is repaired as far as leniency allows.

Valid requests are parsed once, unchanged. Ignored fields are listed in a header of the answer. Large
bodies are decoded, repaired and validated in a thread.
"""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from inspect import isclass
from typing import Final, TypeVar

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from api.bodies import EMPTY_ARRAY, replayed
from api.body_threads import is_large, work_on_body
from api.depends import is_v1
from api.problems import error_response
from wire.errors import ThreadholdError
from wire.leniency import Leniency, Repaired, list_ignored, repair
from wire.validation import MAX_EXPLAINED, explain, parse
from wire.validation_errors import MAX_ERRORS, first_error, list_errors

__all__ = ["IGNORED", "BodyRoute", "Handler", "parse_leniently"]

IGNORED: Final = "x-threadhold-ignored"
"""Header that lists the ignored fields of a request."""

_BODY: Final = "body"
"""The first part of FastAPI's error locations."""

M = TypeVar("M", bound=BaseModel)
Handler = Callable[[Request], Coroutine[object, object, Response]]


class BodyRoute(APIRoute):
    """A route that repairs its body. Routers use it: `api_router(TAG, BodyRoute)`."""

    def get_route_handler(self) -> Handler:
        """Return a handler that reads and repairs the body, and then calls that of `get_endpoint_handler`."""
        handle = self.get_endpoint_handler()
        model = None if self.body_field is None else self.body_field.field_info.annotation
        if not (isclass(model) and issubclass(model, BaseModel)):
            return handle
        body_model: type[BaseModel] = model

        async def handle_leniently(request: Request) -> Response:
            body, leniency = await request.body(), _leniency(request)
            if not is_large(body):
                return await _answer(handle, _check(body_model, body, leniency), request)
            async with request.app.state.large_bodies.slot(request.state.owner):
                repaired = await work_on_body(len(body), _check, body_model, body, leniency)
                return await _answer(handle, repaired, request)

        return handle_leniently

    def get_endpoint_handler(self) -> Handler:
        """Return a handler that calls the endpoint for a request whose `json()` is the body's model: FastAPI's."""
        return super().get_route_handler()


class _Checked(Request):
    """A request whose body was validated: FastAPI's own validation accepts an existing model unchanged."""

    def __init__(self, request: Request, body: object) -> None:
        super().__init__(request.scope, replayed(b"{}", request.receive))
        self._checked = body

    async def json(self) -> object:
        """Return the body as its model."""
        return self._checked


async def _answer(handle: Handler, repaired: Repaired, request: Request) -> Response:
    """Handle a request with its body as a model, or refuse it."""
    try:
        if repaired.refused is not None:
            raise explain([{**repaired.refused, "loc": (_BODY, *repaired.refused["loc"])}])
        response = await handle(_Checked(request, repaired.data))
    except ThreadholdError as refusal:  # answered here to send the header with the ignored fields
        response = error_response(refusal)
    response.headers.update(_headers(repaired))
    return response


def _check(model: type[BaseModel], body: bytes, leniency: Leniency) -> Repaired:
    """Return a body as its model, repaired as far as leniency allows. CPU work: call it in a thread."""
    data = orjson.loads(body)
    try:
        return Repaired(model.model_validate(data))
    except ValidationError as error:
        mendable = leniency.repairs_more_than_empty_arrays or EMPTY_ARRAY in body
        found = list_errors(model, data, error, MAX_ERRORS if mendable else MAX_EXPLAINED)
        if not mendable:
            return Repaired(data, refused=first_error(found.errors))
    repaired = repair(model, data, leniency, found=found)
    return repaired if repaired.refused is not None else replace(repaired, data=model.model_validate(repaired.data))


def parse_leniently(model: type[M], data: object, request: Request) -> tuple[M, dict[str, str]]:
    """Validate data that is not a JSON body, such as a form's fields; also return the headers of the answer.

    Raises InvalidRequest.
    """
    repaired = repair(model, data, _leniency(request))
    return parse(model, repaired.data), _headers(repaired)


def _leniency(request: Request) -> Leniency:
    return Leniency(
        ignore_unknown=request.app.state.ignores_unknown_fields,
        v1=is_v1(request.headers),
        sent=request.scope["state"].get("sent"),
    )


def _headers(repaired: Repaired) -> dict[str, str]:
    return {IGNORED: list_ignored(repaired.ignored)} if repaired.ignored else {}
