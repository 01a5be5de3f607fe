"""Assembles the server from its settings. The only file that reads the environment.

`threadhold` and `python server.py` run the command line, which serves by default. `create_app(settings)` returns the
app for other ASGI servers and for tests.
"""

import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

_ROOT = Path(__file__).resolve().parent
_PACKAGES = (
    "api",
    "chains",
    "documents",
    "fairness",
    "graphs",
    "ops",
    "retrieval",
    "store",
    "telemetry",
    "web",
    "wire",
    "workers",
)


def _shadows(entry: str) -> bool:
    """Return whether this entry of `sys.path` has a foreign package or module with the name of one of our packages."""
    folder = os.path.realpath(entry)  # `Path.is_dir` raises for folders without read permission
    return folder != str(_ROOT) and any(
        os.path.isdir(os.path.join(folder, name)) or os.path.isfile(os.path.join(folder, f"{name}.py"))
        for name in _PACKAGES
    )


# `python -m server`, or `.` in PYTHONPATH, puts the working directory first, where the user can have an `api/`.
sys.path.sort(key=_shadows)

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import SettingsError

from ops import Factories, run
from ops.files import read_text, read_toml
from ops.owners import describe_inaccessible
from ops.setting_errors import describe_errors
from ops.settings import DOTENV, TOML, Settings
from telemetry.version import installed_version
from wire.errors import InvalidSetting

if TYPE_CHECKING:  # takes a second to import, so `create_app` imports it when the port is open
    from fastapi import FastAPI

    from chains import CallLimits, ModelRouter, Upstream
    from store.ports import Sharing

__all__ = ["Settings", "create_app", "main", "read_settings"]

# Libraries read these variables from the environment, never from `.env`.
_OF_LIBRARIES = ("OTEL_", "LANGSMITH_", "LANGCHAIN_")


def create_app(settings: Settings | None = None, *, sharing: "Sharing | None" = None) -> "FastAPI":
    """Return the app for these settings, by default those of the environment. Raises ThreadholdError.

    With `sharing`, other processes that share the store can use it, too; it is meant for tests (see `Database.open`).
    """
    from api.app import build_app
    from api.depends import Deps
    from api.gc_tuning import tuned_interpreter
    from api.model_calls import ModelCalls
    from chains import EmbeddingRouter, Prompts
    from chains.embedders import choose_embedder, words_only_notice
    from documents.extraction import Extractor
    from graphs.admission import Limits
    from graphs.retention import Retention
    from graphs.runner import Runner
    from graphs.tools.kinds import open_resources
    from graphs.tools.lazy_caller import ActionOptions
    from graphs.tools.resources import ToolDeps
    from retrieval.attachments import Attachments
    from retrieval.images import Images
    from retrieval.ingestion import Ingestion
    from retrieval.upload_parts import Uploads
    from store.blobs import FolderBlobs
    from store.free_space import Disks
    from workers import open_workers

    settings = settings or read_settings()
    settings.check()
    router = _router(settings)
    embedder = choose_embedder(settings.embeddings_model, router)

    @asynccontextmanager
    async def open_deps() -> AsyncIterator[Deps]:
        if embedder is None:
            logging.getLogger("threadhold").warning(words_only_notice())
        disks = Disks()
        async with AsyncExitStack() as stack:
            if embedder is not None:
                stack.push_async_callback(embedder.close)
            opening = settings.database.open(disks=disks, has_reserve=True, sharing=sharing)
            backend = await stack.enter_async_context(opening)
            file_space = disks.free_space(settings.data_dir)
            stack.push_async_callback(router.close)
            store, file_queries = backend.records, backend.file_queries
            blobs = FolderBlobs(settings.data_dir / "files", file_space)
            processes = backend.processes
            ingestion = Ingestion(
                store,
                file_queries,
                blobs,
                backend.vectors,
                embedder,
                Extractor(),
                free_space=backend.free_space,
                processes=processes,
            )
            uploads = Uploads(store, file_queries, blobs, max_bytes=settings.max_file_bytes, processes=processes)
            attachments = Attachments(store, file_queries, wake=ingestion.wake)
            actions = ActionOptions(settings.actions_allow_hosts, settings.action_timeout_s, settings.action_max_bytes)
            tools = ToolDeps(
                store,
                backend.vectors,
                embedder,
                wait_for_index=ingestion.wait_until_indexed,
                prompts=Prompts.changed(settings.prompts),
                options=[actions],
            )
            resources = await stack.enter_async_context(open_resources(tools))
            limits = Limits(
                max_executing=settings.max_runs,
                max_queued=settings.max_queued_runs,
                max_executing_per_owner=settings.max_runs_per_owner,
                max_queued_per_owner=settings.max_queued_runs_per_owner,
                share=0.75 if settings.is_shared else 1.0,
                memory_bytes=settings.max_run_memory_bytes,
            )
            runner = Runner(
                store,
                router,
                resources,
                attachments=attachments,
                pictures=Images(store, blobs),
                expiry_s=settings.run_expiry_s,
                max_tool_rounds=settings.max_tool_rounds,
                limits=limits,
                processes=processes,
            )
            await blobs.open()
            await router.open()
            key_owners = {*settings.api_keys.values(), *(key.owner for key in await backend.keys.all())}
            if lost := describe_inaccessible(await backend.health.owners(), key_owners):
                logging.getLogger("threadhold").warning(lost)
            retention = Retention(store, backend.thread_activity, days=settings.retention_days, processes=processes)
            tuned = tuned_interpreter()
            async with _tracing(), open_workers(), ingestion, uploads, runner, retention, tuned:
                yield Deps(
                    store=store,
                    upstream=router,
                    runner=runner,
                    aliases=settings.model_aliases,
                    file_queries=file_queries,
                    vectors=backend.vectors,
                    embedder=embedder,
                    embeddings=EmbeddingRouter(router, embedder, settings.embeddings_model),
                    blobs=blobs,
                    ingestion=ingestion,
                    uploads=uploads,
                    attachments=attachments,
                    max_file_bytes=settings.max_file_bytes,
                    health=backend.health,
                    keys=backend.keys,
                    usage=backend.usage,
                    disks=disks,
                    data_dir=settings.data_dir,
                    free_space=file_space,
                    calls=ModelCalls(limits),
                )

    return build_app(
        open_deps, access=settings.access, version=installed_version(), unknown_fields=settings.unknown_fields
    )


def _tracing() -> AbstractAsyncContextManager[None]:
    """Return a context in which traces are sent, if OpenTelemetry's standard variables name an endpoint."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "") or "otlp"
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter != "otlp"
    if is_off or not any(map(os.environ.get, endpoints)):
        return nullcontext()
    try:
        from api.tracing import traced
    except ImportError:
        logging.getLogger("threadhold").warning(
            "no traces are sent because the exporter's package is missing. Run `%s`, then restart the server",
            ".venv/bin/python -m pip install opentelemetry-exporter-otlp-proto-http",
        )
        return nullcontext()
    return traced(installed_version())


def _router(settings: Settings) -> "ModelRouter":
    """Return the upstreams: first MODEL_URL's or the built-in engine, if used, then the named ones.

    The built-in engine is used with MODEL_PATH, or if no other upstream is set. Raises ThreadholdError.
    """
    from chains import ModelRouter, OpenAIBackend, Prompts, RoutedUpstream, build_upstream

    prompts = Prompts.changed(settings.prompts)
    upstreams: list[RoutedUpstream] = []
    if settings.model_url or settings.model_path or not settings.upstreams:
        first = _first_upstream(settings)
        upstreams.append(
            RoutedUpstream("", first, OpenAIBackend(first, tool_calls=settings.tool_calls, prompts=prompts))
        )
    for name, one in settings.upstreams.items():
        upstreams.append(
            build_upstream(
                name,
                one,
                tool_calls=settings.tool_calls,
                prompts=prompts,
                limits=_call_limits(settings),
                max_reply_tokens=settings.max_reply_tokens,
            )
        )
    return ModelRouter(upstreams, aliases=settings.model_aliases, default_model=settings.default_model)


def _first_upstream(settings: Settings) -> "Upstream":
    """Return the upstream at MODEL_URL, or the built-in engine."""
    from chains import Builtin, EngineConfig, Upstream

    if settings.model_url:
        return Upstream(
            settings.model_url,
            api_key=settings.model_api_key or None,
            limits=_call_limits(settings),
            max_reply_tokens=settings.max_reply_tokens,
        )
    return Builtin(
        settings.model_path,
        config=EngineConfig(
            context_size=settings.model_context_size,
            parallel=settings.model_parallel,
            # With one thread per processor, busy processors slow down the threads and the server.
            threads=settings.model_threads or max(1, (os.cpu_count() or 1) // 2),
            max_reply_tokens=settings.max_reply_tokens,
        ),
        limits=_call_limits(settings),
        is_shared=settings.is_shared,
    )


def _call_limits(settings: Settings) -> "CallLimits":
    from chains import CallLimits, RetryPolicy

    idle_s = settings.upstream_timeout_s
    retry = RetryPolicy(settings.upstream_retries, max_wait_s=settings.upstream_retry_max_s)
    return CallLimits(idle_s, min(10.0, idle_s), retry)


def main(arguments: Sequence[str] | None = None, *, sharing: "Sharing | None" = None) -> None:
    """Run the command line, the console script `threadhold`. Without a command, it serves. See `create_app`."""
    app = partial(create_app, sharing=sharing)
    sys.exit(run(Factories(settings=read_settings, app=app, router=_router, version=installed_version()), arguments))


def read_settings(**given: Any) -> Settings:
    """Return the settings; `given` overrides the environment and the files.

    Raises InvalidSetting with a line for each fault, or for a file that cannot be read.
    """
    logging.getLogger("dotenv").setLevel(logging.ERROR)  # `Settings.ignored_entries` reports invalid lines
    for name, value in dotenv_values(stream=StringIO(read_text(DOTENV))).items():
        if name.startswith(_OF_LIBRARIES) and value:
            os.environ.setdefault(name, value)
    read_toml(TOML)
    try:
        return Settings(**given)
    except (ValidationError, SettingsError) as error:
        raise InvalidSetting("\n".join(describe_errors(error, Settings))) from error


if __name__ == "__main__":
    main()
