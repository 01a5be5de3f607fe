"""Which parts, for these settings? The only file that reads the environment.

`threadhold` and `python server.py` are the command line, and serve when nothing else is said; `create_app(settings)`
gives the app to other servers and to tests.
"""

import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

_ROOT = Path(__file__).resolve().parent
_PACKAGES = ("api", "chains", "documents", "graphs", "ops", "store", "watch", "web", "wire")


def _shadows(entry: str) -> bool:
    """Tell whether a package of ours would be imported from this entry of `sys.path` although it is another's."""
    folder = Path(entry).resolve()
    return folder != _ROOT and any((folder / name).is_dir() for name in _PACKAGES)


# `python -m server`, or `.` in PYTHONPATH, puts the working directory first, and an `api/` of the user's with it.
sys.path.sort(key=_shadows)

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from api.hosts import is_loopback
from ops import Parts, run
from ops.files import doubts, read_text, read_toml
from ops.owners import unopened
from watch.log import Format, Level
from watch.version import installed_version
from wire.errors import ThreadholdError
from wire.lists import split_aliases, split_keys, split_names

if TYPE_CHECKING:  # they take a second to import; `create_app` does, when the port is open
    from fastapi import FastAPI

    from api.app import Access
    from chains import Routes, Upstream

__all__ = ["Settings", "create_app", "main", "read_settings"]

_DOTENV, _TOML = ".env", "threadhold.toml"
_NOT_BUILT = ("REDIS_URL", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET_NAME")
_OF_LIBRARIES = ("OTEL_", "LANGSMITH_", "LANGCHAIN_")  # they read the environment, never `.env`
Names = Annotated[tuple[str, ...], NoDecode]
ToolCalls = Literal["auto", "native", "schema", "prompt"]  # chains.calls has them too, but takes long to import


class UpstreamSettings(BaseModel):
    """One `[upstreams.NAME]` of threadhold.toml. Unknown keys are refused: a misspelled one would go unnoticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = ""
    api_key: str = Field("", repr=False)
    models: tuple[str, ...] = ()
    provider: str = "openai"
    tool_calls: ToolCalls | None = None

    @model_validator(mode="after")
    def _fits_its_provider(self) -> Self:
        if self.provider == "openai" and not self.url:
            raise ValueError("`url` is missing; write an OpenAI-compatible address, or another `provider`")
        if self.provider != "openai" and self.tool_calls:
            raise ValueError("`tool_calls` is for OpenAI-compatible upstreams only; other providers are native")
        return self


class Settings(BaseSettings):
    """Every setting. Taken from the environment, else from `.env`, else from `threadhold.toml` (lower-case keys)."""

    model_config = SettingsConfigDict(env_file=_DOTENV, toml_file=_TOML, extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 3000
    model_url: str = ""
    model_api_key: str = ""
    default_model: str = ""
    model_path: Path | None = None
    model_context_size: Annotated[int, Field(ge=256)] = 8_192
    model_parallel: Annotated[int, Field(ge=1)] = 2
    model_threads: Annotated[int, Field(ge=0)] = 0
    max_reply_tokens: Annotated[int, Field(ge=1)] | None = None
    model_aliases: Annotated[dict[str, str], NoDecode] = {}
    upstreams: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], UpstreamSettings] = {}
    tool_calls: ToolCalls = "auto"
    prompts: dict[str, str] = {}
    embeddings_model: str = ""
    database_url: str = ""
    data_dir: Path = Path("data")
    api_keys: Annotated[dict[str, str], NoDecode] = {}
    cors_origins: Names = ()
    allowed_hosts: Names = ()
    actions_allow_hosts: Names = ()
    action_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    action_max_bytes: Annotated[int, Field(gt=0)] = 65_536
    upstream_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    run_expiry_s: Annotated[int, Field(gt=0)] = 600
    max_tool_rounds: Annotated[int, Field(ge=1)] = 20
    max_runs: Annotated[int, Field(ge=1)] = 1024
    max_queued_runs: Annotated[int, Field(ge=0)] = 10_000
    max_runs_per_owner: Annotated[int, Field(ge=1)] | None = None
    max_queued_runs_per_owner: Annotated[int, Field(ge=0)] | None = None
    max_connections: Annotated[int, Field(ge=1)] = 8192
    drain_s: Annotated[float, Field(ge=0)] = 10.0
    max_body_bytes: Annotated[int, Field(gt=0)] = 10 * 1024 * 1024
    max_file_bytes: Annotated[int, Field(gt=0)] = 512 * 1024 * 1024
    retention_days: Annotated[float, Field(ge=0, le=36_500)] = 0
    unknown_fields: Literal["refuse", "ignore"] = "refuse"
    metrics_key: str = ""
    log_level: Level = "info"
    log_format: Format = "auto"
    log_content: bool = False
    redis_url: str = ""
    s3_endpoint: str = ""
    s3_access_key: str = ""
    s3_secret_key: str = ""
    s3_bucket_name: str = ""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the TOML file last."""
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    @field_validator("cors_origins", "allowed_hosts", "actions_allow_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return split_names(value) if isinstance(value, str) else value

    @field_validator("log_level", "log_format", "unknown_fields", mode="before")
    @classmethod
    def _write_small(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("max_reply_tokens", "max_runs_per_owner", "max_queued_runs_per_owner", mode="before")
    @classmethod
    def _have_no_limit(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("model_path", mode="before")
    @classmethod
    def _find_home(cls, value: Any) -> Any:
        """Empty is none, and `~` a home, as in a shell."""
        return (Path(value).expanduser() if value else None) if isinstance(value, str) else value

    @field_validator("model_aliases", mode="before")
    @classmethod
    def _split_aliases(cls, value: Any) -> Any:
        return split_aliases(value) if isinstance(value, str) else value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        value = ",".join(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else value
        return split_keys(value) if isinstance(value, str) else value

    @property
    def database(self) -> Path | str:
        """The store's file. Raises ThreadholdError for what is not built."""
        if not self.database_url:
            return self.data_dir / "threadhold.db"
        scheme = self.database_url.partition("://")[0]
        if scheme != "sqlite":
            raise ThreadholdError(
                f"DATABASE_URL is a '{scheme[:20]}' URL, but only SQLite is built yet. Unset it, or write "
                "sqlite:///path/to/file.db."
            )
        path = self.database_url.removeprefix("sqlite://").removeprefix("/")
        if not path:
            raise ThreadholdError("DATABASE_URL names no file; write sqlite:///path/to/file.db.")
        return path

    @property
    def unused(self) -> list[str]:
        """Those that are set and not built."""
        return [name for name in _NOT_BUILT if getattr(self, name.lower())]

    @property
    def doubts(self) -> list[str]:
        """What stands in the files and sets nothing."""
        return doubts(Settings.model_fields, toml=read_toml(_TOML), dotenv=read_text(_DOTENV))

    @property
    def secrets(self) -> list[str]:
        """What no line of the log may have in it."""
        own = (self.metrics_key, self.model_api_key, self.s3_access_key, self.s3_secret_key)
        return [*self.api_keys, *own, *(one.api_key for one in self.upstreams.values())]

    def check(self) -> None:
        """Refuse what must not be served. Raises ThreadholdError with a sentence."""
        _ = self.database
        if not self.api_keys and not is_loopback(self.host):
            raise ThreadholdError(
                f"HOST is {self.host or 'every address'}, which others can reach, but API_KEYS is empty. "
                "Set API_KEYS, or serve on 127.0.0.1."
            )

    @property
    def access(self) -> "Access":
        """Who may come in. Behind keys any `Host` may, unless ALLOWED_HOSTS says which."""
        from api.app import Access

        any_host = not is_loopback(self.host) and not self.allowed_hosts
        return Access(
            keys=self.api_keys,
            hosts=None if any_host else {*self.allowed_hosts, self.host},
            origins=self.cors_origins,
            max_body_bytes=self.max_body_bytes,
            metrics_key=self.metrics_key,
        )


def create_app(settings: Settings | None = None) -> "FastAPI":
    """Return the app for these settings, those of the environment by default. Raises ThreadholdError."""
    from api.app import build_app
    from api.depends import House
    from api.interpreter import tuned_interpreter
    from chains import EmbeddingRoutes, Prompts
    from chains.embedders import choose_embedder
    from documents.extraction import Extractor
    from graphs.attachments import Attachments
    from graphs.ingestion import Ingestion
    from graphs.pictures import Pictures
    from graphs.retention import Retention
    from graphs.runner import Runner
    from graphs.tools.caller import LateCaller
    from graphs.tools.file_search import FileSearch
    from graphs.turns import Limits
    from graphs.uploads import Uploads
    from store import open_store
    from store.ages import SqliteAges
    from store.blobs import FolderBlobs
    from store.export import owners

    settings = settings or Settings()
    settings.check()
    routes = _routes(settings)
    embedder = choose_embedder(settings.embeddings_model, routes)

    @asynccontextmanager
    async def open_house() -> AsyncIterator[House]:
        store = await open_store(settings.database)
        caller = LateCaller(
            allow_hosts=settings.actions_allow_hosts,
            timeout_s=settings.action_timeout_s,
            max_bytes=settings.action_max_bytes,
        )
        blobs = FolderBlobs(settings.data_dir / "files")
        ingestion = Ingestion(store, store.library, blobs, store.vectors, embedder, Extractor())
        uploads = Uploads(store, store.library, blobs, max_bytes=settings.max_file_bytes)
        attachments = Attachments(store, wake=ingestion.wake)
        prompts = Prompts.changed(settings.prompts)
        searcher = FileSearch(store, store.vectors, embedder, ready=ingestion.ready, prompts=prompts)
        runner = Runner(
            store,
            routes,
            caller,
            attachments=attachments,
            searcher=searcher,
            pictures=Pictures(store, blobs),
            expiry_s=settings.run_expiry_s,
            max_tool_rounds=settings.max_tool_rounds,
            limits=Limits(
                at_work=settings.max_runs,
                in_line=settings.max_queued_runs,
                at_work_per_owner=settings.max_runs_per_owner,
                in_line_per_owner=settings.max_queued_runs_per_owner,
            ),
        )
        try:
            await blobs.open()
            await routes.open()
            if lost := unopened(await store.engine.read(owners), settings.api_keys):
                logging.getLogger("threadhold").warning(lost)
            retention = Retention(store, SqliteAges(store.engine), days=settings.retention_days)
            tuned = tuned_interpreter(lambda: runner.executing)
            async with _tracing(), ingestion, uploads, runner, retention, tuned:
                yield House(
                    store=store,
                    upstream=routes,
                    runner=runner,
                    aliases=settings.model_aliases,
                    library=store.library,
                    vectors=store.vectors,
                    embedder=embedder,
                    embeddings=EmbeddingRoutes(routes, embedder, settings.embeddings_model),
                    blobs=blobs,
                    ingestion=ingestion,
                    uploads=uploads,
                    attachments=attachments,
                    max_file_bytes=settings.max_file_bytes,
                    writer=store.engine,
                    folders=(Path(settings.database).parent, settings.data_dir),
                )
        finally:
            await caller.close()
            await routes.close()
            await store.close()
            await embedder.close()

    return build_app(
        open_house, access=settings.access, version=installed_version(), unknown_fields=settings.unknown_fields
    )


def _tracing() -> AbstractAsyncContextManager[None]:
    """Send traces where OpenTelemetry's usual variables say where to."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "") or "otlp"
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter != "otlp"
    if is_off or not any(map(os.environ.get, endpoints)):
        return nullcontext()
    try:
        from api.tracing import traced
    except ImportError:
        logging.getLogger("threadhold").warning(
            "no traces are sent: the package for it is missing. `%s`, then start again",
            ".venv/bin/python -m pip install opentelemetry-exporter-otlp-proto-http",
        )
        return nullcontext()
    return traced(installed_version())


def _routes(settings: Settings) -> "Routes":
    """The upstreams: MODEL_URL's first, or the built-in engine where there is no other. Raises ThreadholdError."""
    from chains import Member, Prompts, Replies, Routes, build_member

    prompts = Prompts.changed(settings.prompts)
    members: list[Member] = []
    if settings.model_url or settings.model_path or not settings.upstreams:
        first = _first_upstream(settings)
        members.append(Member("", first, Replies(first, tool_calls=settings.tool_calls, prompts=prompts)))
    for name, one in settings.upstreams.items():
        members.append(
            build_member(
                name,
                one,
                tool_calls=settings.tool_calls,
                prompts=prompts,
                timeout_s=settings.upstream_timeout_s,
                max_reply_tokens=settings.max_reply_tokens,
            )
        )
    return Routes(members, aliases=settings.model_aliases, default_model=settings.default_model)


def _first_upstream(settings: Settings) -> "Upstream":
    """MODEL_URL's, or the built-in engine."""
    from chains import Builtin, Shape, Upstream

    if settings.model_url:
        return Upstream(
            settings.model_url,
            api_key=settings.model_api_key or None,
            timeout_s=settings.upstream_timeout_s,
            max_reply_tokens=settings.max_reply_tokens,
        )
    return Builtin(
        settings.model_path,
        shape=Shape(
            context_size=settings.model_context_size,
            parallel=settings.model_parallel,
            # all of them would slow each other down, and the server: on two busy ones, two threads took 8 times one
            threads=settings.model_threads or max(1, (os.cpu_count() or 1) // 2),
            max_reply_tokens=settings.max_reply_tokens,
        ),
        timeout_s=settings.upstream_timeout_s,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says, serve where it says nothing; the console script `threadhold`."""
    sys.exit(run(Parts(settings=read_settings, app=create_app, routes=_routes, version=installed_version()), arguments))


def read_settings(**given: Any) -> Settings:
    """Return the settings; `given` comes before all files.

    Raises ThreadholdError for a file that cannot be read, pydantic's ValidationError for what is wrong in it.
    """
    logging.getLogger("dotenv").setLevel(logging.ERROR)  # what it cannot read is among the settings' doubts
    for name, value in dotenv_values(stream=StringIO(read_text(_DOTENV))).items():
        if name.startswith(_OF_LIBRARIES) and value:
            os.environ.setdefault(name, value)
    read_toml(_TOML)
    return Settings(**given)


if __name__ == "__main__":
    main()
