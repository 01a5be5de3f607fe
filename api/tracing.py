"""Sends traces to an OpenTelemetry collector, by OTLP over HTTP. Imported only if its standard variables request it.

Invariants: a thread of the SDK sends the spans, so a slow or missing collector delays no request. The end waits for the
remaining spans for a limited time. An application's own tracer provider is kept.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

__all__ = ["traced"]

logger = logging.getLogger("threadhold")

_FLUSH_S: Final = 5.0


@asynccontextmanager
async def traced(version: str) -> AsyncIterator[None]:
    """Send the spans that end within the block. The SDK's variables determine the endpoint and the sampling."""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        yield  # the application has its own provider
        return
    provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
    exporter = OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    logger.info("traces are sent by OTLP over HTTP")
    try:
        yield
    finally:
        try:
            async with asyncio.timeout(_FLUSH_S):
                await asyncio.to_thread(provider.shutdown)
        except TimeoutError:
            # otherwise it would continue its attempts, and the end would wait for their thread
            exporter.shutdown()  # type: ignore[no-untyped-call]


def _resource(version: str) -> Resource:
    """Return the resource from the SDK's variables; without a service name there, it is `threadhold`."""
    resource = Resource.create({SERVICE_VERSION: version})
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "threadhold"}))
    return resource
