"""`/metrics` for Prometheus: the rooms' metrics, put into its format when it asks. The only file that knows Prometheus.

Laws: nothing is counted here, so that requests and tokens cost nothing more; no label is an id, a raw path, or what a
client wrote; the library is imported at the first scrape, into a registry of the app's own. Who may read it is the
gate's business.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

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

_FIRST_TOKEN = "From taking a run up until the model's first output: text, a thought or a tool call."


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Answer all metrics, as text or OpenMetrics, as the reader likes."""
    state = request.app.state
    state.found_ready = await state.readiness.checks()
    body, content_type = await asyncio.to_thread(_expose, state, request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


def _expose(state: Any, accept: str) -> tuple[bytes, str]:
    from prometheus_client.exposition import choose_encoder

    if not hasattr(state, "metrics"):
        state.metrics = _registry(state)
    encode, content_type = choose_encoder(accept)
    return encode(state.metrics), content_type


def _registry(state: Any) -> "CollectorRegistry":
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.registry import Collector

    class Metrics(Collector):
        """The metrics of the server that is open when they are requested."""

        def collect(self) -> "Iterator[Metric]":
            yield from _of_requests(state.requests)
            yield from _of_the_door(getattr(state, "door", None))
            yield from _of_runs(state.deps)
            yield from _of_upstreams(state.deps)
            yield from _of_the_store(state.deps)
            yield from _of_the_server(state.version, state.found_ready, state.deps.folders)

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(Metrics())
    return registry


def _of_requests(metrics: RequestMetrics) -> "Iterator[Metric]":
    asked = ("method", "route")
    yield _counter("requests", "Requests answered.", (*asked, "status"), metrics.answers)
    yield _histograms("request_seconds", "Until the answer began.", asked, metrics.seconds)
    yield _gauge("requests_open", "Requests being answered, streams included.", metrics.open)
    yield _gauge("streams_open", "Event streams being sent.", metrics.streams)


def _of_the_door(door: ConnectionLimit | None) -> "Iterator[Metric]":
    """Of connections, where this server serves itself."""
    if door is not None:
        yield _gauge("connections_open", "Connections of clients.", len(door.inside))
        yield _counter("connections_refused", "Connections beyond MAX_CONNECTIONS.", (), {(): door.refused})


def _of_runs(deps: Deps) -> "Iterator[Metric]":
    metrics = deps.runner.metrics
    yield _counter("runs", "Runs that ended or paused, by status.", ("status",), metrics.runs)
    yield _gauge("runs_executing", "Runs being executed.", deps.runner.executing)
    yield _gauge("runs_queued", "Runs that wait for their turn.", deps.runner.waiting)
    yield _histogram("run_seconds", "From taking a run up until it ended or paused.", metrics.run_seconds)
    yield _histogram("first_token_seconds", _FIRST_TOKEN, metrics.first_token_seconds)
    yield _counter("replies", "Model calls of runs, by outcome.", ("outcome",), metrics.replies)
    yield _histogram("reply_seconds", "From asking a model until it had answered.", metrics.reply_seconds)
    yield _counter("tokens", "Tokens of replies, prompt and completion.", ("kind",), metrics.tokens)
    yield _counter("tool_calls", "Calls that the server made itself.", ("kind",), metrics.tools)
    yield _histogram("tool_call_seconds", "How long they took.", metrics.tool_seconds)


def _of_upstreams(deps: Deps) -> "Iterator[Metric]":
    outcomes = {
        (member.name or "default", *outcome): count
        for member in deps.upstream.members
        for outcome, count in dict(member.source.outcomes).items()
    }
    told = "Requests to upstreams, tries that were repeated included."
    yield _counter("upstream_requests", told, ("upstream", "outcome"), outcomes)
    ends: Counter[tuple[str, ...]] = Counter()
    for member in deps.upstream.members:
        if isinstance(member.source, Builtin):
            ends.update(member.source.engine_ends)
    yield _counter("engine_ends", "Built-in engines that ended on their own or hung, by reason.", ("reason",), ends)


def _of_the_store(deps: Deps) -> "Iterator[Metric]":
    metrics, ingestion = deps.health.metrics, deps.ingestion
    yield _histogram("store_batch_commits", "Commits that shared a transaction.", metrics.batch_commits)
    yield _histogram("store_batch_seconds", "From a transaction's begin until it was on disk.", metrics.batch_seconds)
    yield _gauge("store_commits_waiting", "Commits that wait for the writer.", deps.health.waiting)
    yield _counter("store_batches_failed", "Transactions that the database did not take.", (), {(): metrics.failed})
    yield _counter("store_commits_refused", "Commits refused for what they asked.", (), {(): metrics.refused})
    yield _counter("files_indexed", "Files, by how indexing ended.", ("status",), ingestion.indexed)
    yield _histogram("file_index_seconds", "How long indexing a file took.", ingestion.seconds)
    yield _gauge("files_indexing", "Files being indexed.", ingestion.busy)
    yield _gauge("files_to_reindex", "Files whose word index an upgrade has still to rewrite.", ingestion.outdated)


def _of_the_server(version: str, ready: Mapping[str, str | None], folders: tuple[Path, ...]) -> "Iterator[Metric]":
    yield _gauges(
        "ready", "What /ready says: 1 is ok.", ("check",), {(name,): int(not wrong) for name, wrong in ready.items()}
    )
    yield _gauge("disk_free_bytes", "Room for the database and files.", min(map(free_bytes, folders)))
    yield _gauges("info", "Which version this is.", ("version",), {(version,): 1})


# --- Prometheus's families ------------------------------------------------------------------------------------------


def _counter(name: str, told: str, labels: Labels, counts: Mapping[Labels, int]) -> "Metric":
    from prometheus_client.metrics_core import CounterMetricFamily

    family = CounterMetricFamily(f"threadhold_{name}", told, labels=labels)
    for values, count in dict(counts).items():
        family.add_metric(values, count)
    return family


def _gauges(name: str, told: str, labels: Labels, values: Mapping[Labels, float]) -> "Metric":
    from prometheus_client.metrics_core import GaugeMetricFamily

    family = GaugeMetricFamily(f"threadhold_{name}", told, labels=labels)
    for at, value in values.items():
        family.add_metric(at, value)
    return family


def _gauge(name: str, told: str, value: float) -> "Metric":
    return _gauges(name, told, (), {(): value})


def _histograms(name: str, told: str, labels: Labels, of: Mapping[Any, Histogram]) -> "Metric":
    from prometheus_client.metrics_core import HistogramMetricFamily

    family = HistogramMetricFamily(f"threadhold_{name}", told, labels=labels)
    for values, histogram in dict(of).items():
        counts = accumulate(list(histogram.counts))
        bounds = (*map(str, histogram.bounds), "+Inf")
        family.add_metric(values, list(zip(bounds, counts, strict=True)), histogram.total)
    return family


def _histogram(name: str, told: str, histogram: Histogram) -> "Metric":
    return _histograms(name, told, (), {(): histogram})
