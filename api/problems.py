"""Turns errors into HTTP answers, always in OpenAI's shape."""

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.json_response import answer
from telemetry.tracebacks import clear_tracebacks
from wire.errors import (
    InvalidRequest,
    NotFound,
    Problem,
    StoreError,
    ThreadholdError,
    UpstreamProblem,
    as_problem,
)
from wire.validation import explain, truncated

__all__ = ["install", "own_answer", "problem_answer"]

logger = logging.getLogger("threadhold.api")


def install(app: FastAPI) -> None:
    """Make the app answer our own errors, FastAPI's and Starlette's."""
    app.add_exception_handler(ThreadholdError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def problem_answer(problem: Problem) -> Response:
    """Return the answer for a problem, which ends here: its frames are cleared."""
    clear_tracebacks(problem)
    if isinstance(problem, UpstreamProblem):
        return answer(problem.upstream_body or problem.body(), status=problem.http_status)
    return answer(problem.body(), status=problem.status, headers=problem.headers)


def own_answer(error: ThreadholdError) -> Response:
    """Return the answer for an error of ours; log it if the store failed."""
    problem = as_problem(error)
    if isinstance(error, StoreError) and problem.status >= 500:
        logger.error("the store refused: %s", error.message)
    clear_tracebacks(error)
    return problem_answer(problem)


async def _ours(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ThreadholdError):
        raise error
    return own_answer(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    problem = explain(error.errors())
    clear_tracebacks(error)
    return problem_answer(problem)


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    clear_tracebacks(error)
    if error.status_code == 404:
        message = f"Invalid URL ({request.method} {truncated(request.url.path)})"
        return answer(NotFound(message, code="unknown_url").body(), status=404)
    if error.status_code == 405:
        message = f"Not allowed to {request.method} on {truncated(request.url.path)}."
        problem = InvalidRequest(message, code="method_not_supported")
        allowed = request.app.state.route_paths.methods(request.url.path)  # Starlette reports those of one route
        return answer(problem.body(), status=405, headers={"Allow": ", ".join(allowed)})
    return answer(InvalidRequest(str(error.detail)).body(), status=error.status_code)
