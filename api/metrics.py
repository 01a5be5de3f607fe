"""`/metrics` for Prometheus: exports the packages' metrics at each scrape. The only file that imports
prometheus_client.

Invariants: nothing is counted here, so requests and tokens cost nothing more. No label is an id, a raw path, or client
input. The library is imported at the first scrape, and each app has its own registry. `api.access` controls access.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fastapi import APIRouter, Request, Response
from starlette.datastructures import State

from api.access_log import RequestMetrics
from api.connection_limit import ConnectionLimit
from api.depends import Deps
from chains import Builtin
from store.free_space import free_bytes
from telemetry.metrics import Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

Labels = tuple[str, ...]
Values = TypeVar("Values", bound=Labels)

_FIRST_TOKEN = "From a run's start until the model's first output: text, reasoning or a tool call."


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return all metrics, as text or OpenMetrics, depending on `Accept`."""
    state = request.app.state
    state.found_ready = await state.readiness.checks()
    body, content_type = await asyncio.to_thread(_expose, state, request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


def _expose(state: State, accept: str) -> tuple[bytes, str]:
    from prometheus_client.exposition import choose_encoder

    if not hasattr(state, "metrics"):
        state.metrics = _registry(state)
    encode, content_type = choose_encoder(accept)
    return encode(state.metrics), content_type


def _registry(state: State) -> "CollectorRegistry":
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.registry import Collector

    class Metrics(Collector):
        """Collects the metrics of the server that is running at the time of the scrape."""

        def collect(self) -> "Iterator[Metric]":
            yield from _of_requests(state.requests)
            yield from _of_connections(getattr(state, "connection_limit", None))
            yield from _of_runs(state.deps)
            yield from _of_upstreams(state.deps)
            yield from _of_the_store(state.deps)
            yield from _of_the_server(state.version, state.found_ready, state.deps.disks.folders)

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(Metrics())
    return registry


def _of_requests(metrics: RequestMetrics) -> "Iterator[Metric]":
    labels = ("method", "route")
    yield _counter("requests", "Requests answered.", (*labels, "status"), metrics.answers)
    yield _histograms("request_seconds", "From the request until the start of its answer.", labels, metrics.seconds)
    yield _gauge("requests_open", "Requests being answered, including streams.", metrics.open)
    yield _gauge("streams_open", "Event streams being sent.", metrics.streams)


def _of_connections(limit: ConnectionLimit | None) -> "Iterator[Metric]":
    """Yield the metrics of connections; none if another ASGI server runs the app."""
    if limit is not None:
        yield _gauge("connections_open", "Open client connections.", len(limit.open_connections))
        yield _counter("connections_refused", "Connections beyond MAX_CONNECTIONS.", (), {(): limit.refused})


def _of_runs(deps: Deps) -> "Iterator[Metric]":
    metrics = deps.runner.metrics
    yield _counter("runs", "Runs that ended or paused, by status.", ("status",), metrics.runs)
    yield _gauge("runs_executing", "Runs being executed.", deps.runner.executing)
    yield _gauge("runs_queued", "Runs that wait in the queue.", deps.runner.waiting)
    yield _histogram("run_seconds", "From a run's start until it ended or paused.", metrics.run_seconds)
    yield _histogram("first_token_seconds", _FIRST_TOKEN, metrics.first_token_seconds)
    yield _counter("replies", "Model calls of runs, by outcome.", ("outcome",), metrics.replies)
    yield _histogram("reply_seconds", "From a model call until the end of its reply.", metrics.reply_seconds)
    yield _counter("tokens", "Tokens of model calls, prompt and completion.", ("kind",), metrics.tokens)
    yield _counter("tool_calls", "Tool calls that the server executed itself.", ("kind",), metrics.tools)
    yield _histogram("tool_call_seconds", "Duration of these tool calls.", metrics.tool_seconds)


def _of_upstreams(deps: Deps) -> "Iterator[Metric]":
    outcomes = {
        (upstream.name or "default", *outcome): count
        for upstream in deps.upstream.upstreams
        for outcome, count in dict(upstream.source.outcomes).items()
    }
    text = "Requests to upstreams, including failed attempts that were retried."
    yield _counter("upstream_requests", text, ("upstream", "outcome"), outcomes)
    ends: Counter[tuple[str, ...]] = Counter()
    for upstream in deps.upstream.upstreams:
        if isinstance(upstream.source, Builtin):
            ends.update(upstream.source.engine_ends)
    yield _counter("engine_ends", "Built-in engines that ended unexpectedly or hung, by reason.", ("reason",), ends)


def _of_the_store(deps: Deps) -> "Iterator[Metric]":
    metrics, ingestion = deps.health.metrics, deps.ingestion
    yield _histogram("store_batch_commits", "Commits in one transaction.", metrics.batch_commits)
    yield _histogram(
        "store_batch_seconds", "From the start of a transaction until it was on disk.", metrics.batch_seconds
    )
    yield _gauge("store_commits_waiting", "Commits that wait for the writer.", deps.health.waiting)
    yield _counter("store_batches_failed", "Transactions that the database failed to commit.", (), {(): metrics.failed})
    yield _counter("store_commits_refused", "Commits that the store refused.", (), {(): metrics.refused})
    yield _counter("files_indexed", "Files by the result of indexing.", ("status",), ingestion.indexed)
    yield _histogram("file_index_seconds", "Duration of indexing a file.", ingestion.seconds)
    yield _gauge("files_indexing", "Files being indexed.", ingestion.files_in_progress)
    yield _gauge(
        "files_to_reindex",
        "Files whose word index must still be rewritten after an upgrade.",
        ingestion.maintenance.outdated,
    )


def _of_the_server(version: str, ready: Mapping[str, str | None], folders: Sequence[Path]) -> "Iterator[Metric]":
    yield _gauges(
        "ready", "Checks of /ready: 1 is ok.", ("check",), {(name,): int(not wrong) for name, wrong in ready.items()}
    )
    yield _gauge("disk_free_bytes", "Free disk space for the database and files.", min(map(free_bytes, folders)))
    yield _gauges("info", "The server's version.", ("version",), {(version,): 1})


# --- Prometheus's metric families -----------------------------------------------------------------------------------


def _counter(name: str, text: str, labels: Labels, counts: Mapping[Labels, int]) -> "Metric":
    from prometheus_client.metrics_core import CounterMetricFamily

    family = CounterMetricFamily(f"threadhold_{name}", text, labels=labels)
    for values, count in dict(counts).items():
        family.add_metric(values, count)
    return family


def _gauges(name: str, text: str, labels: Labels, values: Mapping[Labels, float]) -> "Metric":
    from prometheus_client.metrics_core import GaugeMetricFamily

    family = GaugeMetricFamily(f"threadhold_{name}", text, labels=labels)
    for at, value in values.items():
        family.add_metric(at, value)
    return family


def _gauge(name: str, text: str, value: float) -> "Metric":
    return _gauges(name, text, (), {(): value})


def _histograms(name: str, text: str, labels: Labels, of: Mapping[Values, Histogram]) -> "Metric":
    from prometheus_client.metrics_core import HistogramMetricFamily

    family = HistogramMetricFamily(f"threadhold_{name}", text, labels=labels)
    for values, histogram in dict(of).items():
        counts = accumulate(list(histogram.counts))
        bounds = (*map(str, histogram.bounds), "+Inf")
        family.add_metric(values, list(zip(bounds, counts, strict=True)), histogram.total)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> "Metric":
    return _histograms(name, text, (), {(): histogram})
