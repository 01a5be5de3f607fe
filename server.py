"""Which parts, for these settings? The only file that reads the environment.

`threadhold` and `python server.py` serve; `create_app(settings)` gives the app to other servers and to tests.
"""

import argparse
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from api.hosts import LOOPBACK
from api.serving import open_port, serve
from wire.errors import ThreadholdError
from wire.lists import split_aliases, split_keys, split_names

if TYPE_CHECKING:  # they take a second to import; `create_app` does, when the port is open
    from fastapi import FastAPI

    from api.app import Access
    from chains import Routes, Upstream

__all__ = ["Settings", "create_app", "main"]

logger = logging.getLogger("threadhold")

_SWITCH_S = 0.00005
_BUILTIN_REPLY_TOKENS = 1_024  # small models ramble
_NOT_BUILT = ("REDIS_URL", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET_NAME")
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
    def _has_address(self) -> Self:
        if self.provider == "openai" and not self.url:
            raise ValueError("`url` is missing; write an OpenAI-compatible address, or another `provider`")
        return self


class Settings(BaseSettings):
    """Every setting. Taken from the environment, else from `.env`, else from `threadhold.toml` (lower-case keys)."""

    model_config = SettingsConfigDict(env_file=".env", toml_file="threadhold.toml", extra="ignore", frozen=True)

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
    drain_s: Annotated[float, Field(ge=0)] = 10.0
    max_body_bytes: Annotated[int, Field(gt=0)] = 10 * 1024 * 1024
    max_file_bytes: Annotated[int, Field(gt=0)] = 512 * 1024 * 1024
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

    def check(self) -> None:
        """Refuse what must not be served. Raises ThreadholdError with a sentence."""
        _ = self.database
        if not self.api_keys and self.host not in LOOPBACK:
            raise ThreadholdError(
                f"HOST is {self.host}, which others can reach, but API_KEYS is empty. "
                "Set API_KEYS, or serve on 127.0.0.1."
            )

    @property
    def access(self) -> "Access":
        """Who may come in. Behind keys any `Host` may, unless ALLOWED_HOSTS says which."""
        from api.app import Access

        any_host = self.host not in LOOPBACK and not self.allowed_hosts
        return Access(
            keys=self.api_keys,
            hosts=None if any_host else {*self.allowed_hosts, self.host},
            origins=self.cors_origins,
            max_body_bytes=self.max_body_bytes,
        )


def create_app(settings: Settings | None = None) -> "FastAPI":
    """Return the app for these settings, those of the environment by default. Raises ThreadholdError."""
    from api.app import build_app
    from api.depends import House
    from chains import Prompts
    from chains.embedders import choose_embedder
    from documents.extraction import Extractor
    from graphs.attachments import Attachments
    from graphs.ingestion import Ingestion
    from graphs.pictures import Pictures
    from graphs.runner import Runner
    from graphs.tools.actions import ActionCaller
    from graphs.tools.file_search import FileSearch
    from store import open_store
    from store.blobs import FolderBlobs

    settings = settings or Settings()
    settings.check()
    routes = _routes(settings)
    embedder = choose_embedder(settings.embeddings_model, routes)

    @asynccontextmanager
    async def open_house() -> AsyncIterator[House]:
        store = await open_store(settings.database)
        caller = ActionCaller(
            allow_hosts=settings.actions_allow_hosts,
            timeout_s=settings.action_timeout_s,
            max_bytes=settings.action_max_bytes,
        )
        blobs = FolderBlobs(settings.data_dir / "files")
        ingestion = Ingestion(store, store.library, blobs, store.vectors, embedder, Extractor())
        attachments = Attachments(store, wake=ingestion.wake)
        searcher = FileSearch(
            store, store.vectors, embedder, ready=ingestion.ready, prompts=Prompts.changed(settings.prompts)
        )
        runner = Runner(
            store,
            routes,
            caller,
            attachments=attachments,
            searcher=searcher,
            pictures=Pictures(store, blobs),
            expiry_s=settings.run_expiry_s,
            max_tool_rounds=settings.max_tool_rounds,
        )
        try:
            await blobs.open()
            await routes.open()
            async with ingestion, runner:
                _tune_interpreter()
                yield House(
                    store=store,
                    upstream=routes,
                    runner=runner,
                    aliases=settings.model_aliases,
                    library=store.library,
                    vectors=store.vectors,
                    embedder=embedder,
                    blobs=blobs,
                    ingestion=ingestion,
                    attachments=attachments,
                    max_file_bytes=settings.max_file_bytes,
                )
        finally:
            await caller.close()
            await routes.close()
            await store.close()
            await embedder.close()

    return build_app(open_house, access=settings.access, version=_version())


def _routes(settings: Settings) -> "Routes":
    """The upstreams: MODEL_URL's first, or the built-in engine where there is no other. Raises ThreadholdError."""
    from chains import Member, Prompts, Provider, Replies, Routes, Upstream

    timeout_s = settings.upstream_timeout_s
    prompts = Prompts.changed(settings.prompts)
    members: list[Member] = []
    if settings.model_url or settings.model_path or not settings.upstreams:
        first = _first_upstream(settings)
        members.append(Member("", first, Replies(first, tool_calls=settings.tool_calls, prompts=prompts)))
    for name, one in settings.upstreams.items():
        if one.provider == "openai":
            upstream = Upstream(
                one.url,
                api_key=one.api_key or None,
                timeout_s=timeout_s,
                name=name,
                max_reply_tokens=settings.max_reply_tokens,
            )
            replies = Replies(upstream, tool_calls=one.tool_calls or settings.tool_calls, prompts=prompts)
            members.append(Member(name, upstream, replies, one.models))
        else:
            provider = Provider(
                name,
                one.provider,
                url=one.url or None,
                api_key=one.api_key or None,
                models=one.models,
                timeout_s=timeout_s,
                prompts=prompts,
            )
            members.append(Member(name, provider, provider, one.models))
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
            max_reply_tokens=settings.max_reply_tokens or _BUILTIN_REPLY_TOKENS,
        ),
        timeout_s=settings.upstream_timeout_s,
    )


def _tune_interpreter() -> None:
    """Everything that is loaded by now stays: the collector need not look at it again. Its pauses were the p99.

    The writer gives the interpreter up at every SQL statement; with the default interval of 5 ms it got it back so
    late, while the event loop was busy, that a commit of 1 ms took 6. Measured: first token 8.8 → 6.5 ms.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve; the console script `threadhold`."""
    parser = argparse.ArgumentParser(
        prog="threadhold",
        description="A self-hosted, drop-in server for OpenAI's Assistants API, on any model.",
        epilog="Settings come from the environment, .env and threadhold.toml; the README lists them.",
    )
    parser.add_argument("command", nargs="?", choices=["serve"], default="serve", help="serve (the default)")
    parser.add_argument("--host", help="address to listen on (HOST, default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (PORT, default 3000)")
    parser.add_argument("--version", action="version", version=f"threadhold {_version()}")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request of a provider's client
    try:
        given = {name: value for name in ("host", "port") if (value := getattr(options, name)) is not None}
        settings = Settings(**given)
        settings.check()
        listening = open_port(settings.host, settings.port)
    except ValidationError as error:
        sys.exit("\n".join(f"threadhold: {_setting_name(one)}: {one['msg']}" for one in error.errors()))
    except (ThreadholdError, OSError) as error:
        sys.exit(f"threadhold: {error}")
    url = f"http://{settings.host}:{listening.getsockname()[1]}"
    # uvicorn raises the signals that stopped it once more when it is done; a stop that was asked for is no failure.
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, lambda *_: sys.exit(0))
    _announce(settings)
    try:
        serve(lambda: create_app(settings), listening, drain_s=settings.drain_s, ready=lambda: _invite(url))
    except ThreadholdError as error:
        sys.exit(f"threadhold: {error}")


def _setting_name(error: Any) -> str:
    return str(error["loc"][0]).upper() if error["loc"] else "settings"


def _announce(settings: Settings) -> None:
    """Say what it works with, and what it does not use."""
    unused = [name for name in _NOT_BUILT if getattr(settings, name.lower())]
    if unused:
        logger.warning("%s: not built yet, and not used", ", ".join(unused))
    if settings.model_url:
        logger.info("models: %s", _shown(settings.model_url))
        if settings.model_path is not None:
            logger.warning("MODEL_PATH is not used, as MODEL_URL is set")
    for name, one in settings.upstreams.items():
        logger.info("models: %s/… at %s", name, _shown(one.url) or one.provider)
    logger.info("store: %s", settings.database)


def _invite(url: str) -> None:
    """Say where it is, and how to try it."""
    logger.info("threadhold %s serves on %s (documents at %s/docs); try: curl -s %s/ready", _version(), url, url, url)


def _shown(url: str) -> str:
    """The address without what may be secret in it."""
    try:
        return urlsplit(url)._replace(query="").geturl().rpartition("@")[2]
    except ValueError:  # which is told when it is used
        return "?"


def _version() -> str:
    try:
        return version("threadhold")
    except PackageNotFoundError:
        return "0+checkout"


if __name__ == "__main__":
    main()
