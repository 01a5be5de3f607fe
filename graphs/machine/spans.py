"""Spans of a run, its model calls and its tools. Without a configured OpenTelemetry provider, they cost nothing.

Invariants: names and attributes follow the GenAI conventions where these define one. No span contains the text of a
person, a model or an error, only the kind of an error. A run's span is part of the request that started the run.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, ProxyTracerProvider, Span, SpanKind, StatusCode, Tracer

from graphs.machine.spec import RunSpec, WireRun
from graphs.machine.stream_parts import Call, Usage
from wire.errors import RunError

__all__ = ["end_run", "reply_span", "run_span", "set_usage", "tool_span"]

_NONE: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)


def run_span(run: WireRun) -> AbstractContextManager[Span]:
    """Open the span of the run's execution in this process; `end_run` sets its result."""
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": run["assistant_id"],
        "gen_ai.conversation.id": run["thread_id"],
        "gen_ai.request.model": run["model"],
        "threadhold.run.id": run["id"],
    }
    return _span("invoke_agent", SpanKind.INTERNAL, attributes)


def end_run(span: Span, run: WireRun) -> None:
    """Set the run's status, tokens and error code on its span."""
    if span.is_recording():
        span.set_attribute("threadhold.run.status", run["status"])
        if run["usage"]:
            set_usage(span, run["usage"])
        if run["status"] == "failed":
            span.set_attribute("error.type", (run["last_error"] or {}).get("code", "server_error"))
            span.set_status(StatusCode.ERROR)


def reply_span(spec: RunSpec) -> AbstractContextManager[Span]:
    """Open the span of one model call; `set_usage` sets its tokens."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": spec.model,
        "threadhold.run.id": spec.id,
    }
    return _span(f"chat {spec.model}".rstrip(), SpanKind.CLIENT, attributes)


def tool_span(call: Call, kind: str) -> AbstractContextManager[Span]:
    """Open the span of one server-side tool call."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call["name"],
        "gen_ai.tool.call.id": call["id"],
        "threadhold.tool.kind": kind,
    }
    return _span(f"execute_tool {call['name']}", SpanKind.INTERNAL, attributes)


def set_usage(span: Span, usage: Usage) -> None:
    """Set the tokens on a span."""
    span.set_attribute("gen_ai.usage.input_tokens", usage["prompt_tokens"])
    span.set_attribute("gen_ai.usage.output_tokens", usage["completion_tokens"])


def _span(name: str, kind: SpanKind, attributes: dict[str, str]) -> AbstractContextManager[Span]:
    provider = trace.get_tracer_provider()
    if isinstance(provider, ProxyTracerProvider):  # no provider is configured
        return _NONE
    return _recorded(provider.get_tracer("threadhold"), name, kind, attributes)


@contextmanager
def _recorded(tracer: Tracer, name: str, kind: SpanKind, attributes: dict[str, str]) -> Iterator[Span]:
    with tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except (Exception, asyncio.CancelledError) as error:
            span.set_attribute("error.type", error.kind if isinstance(error, RunError) else type(error).__qualname__)
            span.set_status(StatusCode.ERROR)
            raise
