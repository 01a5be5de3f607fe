"""Turns errors into HTTP answers, always in OpenAI's shape."""

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.json_response import json_response
from telemetry.tracebacks import clear_tracebacks
from wire.answers_to_errors import as_problem
from wire.errors import (
    InvalidRequest,
    NotFound,
    Problem,
    StoreError,
    ThreadholdError,
    UpstreamProblem,
)
from wire.validation import explain, truncated

__all__ = ["error_response", "install", "problem_response"]

logger = logging.getLogger("threadhold.api")


def install(app: FastAPI) -> None:
    """Make the app answer our own errors, FastAPI's and Starlette's."""
    app.add_exception_handler(ThreadholdError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def problem_response(problem: Problem) -> Response:
    """Return the answer for a problem, which ends here: its frames are cleared."""
    clear_tracebacks(problem)
    if isinstance(problem, UpstreamProblem):
        return json_response(problem.upstream_body or problem.body(), status=problem.http_status)
    return json_response(problem.body(), status=problem.status, headers=problem.headers)


def error_response(error: ThreadholdError) -> Response:
    """Return the answer for an error of ours; log it if the store failed."""
    problem = as_problem(error)
    if isinstance(error, StoreError) and problem.status >= 500:
        logger.error("the store refused: %s", error.message)
    clear_tracebacks(error)
    return problem_response(problem)


async def _ours(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ThreadholdError):
        raise error
    return error_response(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    problem = explain(error.errors())
    clear_tracebacks(error)
    return problem_response(problem)


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    clear_tracebacks(error)
    if error.status_code == 404:
        message = f"Invalid URL ({request.method} {truncated(request.url.path)})"
        return json_response(NotFound(message, code="unknown_url").body(), status=404)
    if error.status_code == 405:
        message = f"Not allowed to {request.method} on {truncated(request.url.path)}."
        problem = InvalidRequest(message, code="method_not_supported")
        allowed = request.app.state.route_paths.methods(request.url.path)  # Starlette reports those of one route
        return json_response(problem.body(), status=405, headers={"Allow": ", ".join(allowed)})
    return json_response(InvalidRequest(str(error.detail)).body(), status=error.status_code)
