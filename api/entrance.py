"""The shortest way into the app: past what FastAPI puts around everything, where that has nothing to do."""

from typing import Any

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.trace import ProxyTracerProvider
from starlette.types import ASGIApp, Receive, Scope, Send

from api.azure import AzureAddresses

__all__ = ["way_in"]


def way_in(app: FastAPI) -> ASGIApp:
    """Return the app without its outermost layers where they have nothing to do: FastAPI's spans, which nobody gets,
    and an answer to what breaks, which the gate gives. Each is a call a request, and one of them a call a block."""
    if not isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
        return app
    if app.middleware_stack is None:
        app.middleware_stack = app.build_middleware_stack()
    layer: Any = app.middleware_stack
    while not isinstance(layer, AzureAddresses):
        layer = layer.app

    async def enter(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        await layer(scope, receive, send)

    return enter
