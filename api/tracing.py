"""Traces to an OpenTelemetry collector, by OTLP over HTTP. Imported only where its usual variables ask for it.

Laws: spans are sent by a thread of the SDK's, so that a collector that is slow, or gone, holds up no request; the end
waits for what is left to be sent, in limited time. An application that has set up a provider of its own keeps it.
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
    """Send the spans that end within. Where to, and which of them, the SDK reads from its variables."""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        yield  # somebody else's
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
            # or it would go on with its attempts, and the end would wait for their thread
            exporter.shutdown()  # type: ignore[no-untyped-call]


def _resource(version: str) -> Resource:
    """What the variables say of this service; without a name there, it is `threadhold`."""
    resource = Resource.create({SERVICE_VERSION: version})
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "threadhold"}))
    return resource
