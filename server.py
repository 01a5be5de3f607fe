"""Which parts, for these settings? The only file that reads the environment.

`threadhold` and `python server.py` serve; `create_app(settings)` gives the app to other servers and to tests.
"""

import argparse
import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from api.app import Access, build_app
from api.depends import House
from api.guards import DEFAULT_OWNER
from chains import Replies, Upstream
from documents.extraction import Extractor
from graphs.attachments import Attachments
from graphs.ingestion import Ingestion
from graphs.runner import Runner
from graphs.tools.actions import ActionCaller
from store import open_store
from store.blobs import FolderBlobs
from wire.errors import ThreadholdError

__all__ = ["Settings", "create_app", "main"]

logger = logging.getLogger("threadhold")

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_SWITCH_S = 0.00005
_NOT_BUILT = ("REDIS_URL", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET_NAME")
Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Every setting. Taken from the environment, else from `.env`, else from `threadhold.toml` (lower-case keys)."""

    model_config = SettingsConfigDict(env_file=".env", toml_file="threadhold.toml", extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 3000
    model_url: str = ""
    model_api_key: str = ""
    default_model: str = ""
    model_aliases: Annotated[dict[str, str], NoDecode] = {}
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
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("model_aliases", mode="before")
    @classmethod
    def _split_aliases(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        aliases: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in value.split(","))):
            name, equals, target = (piece.strip() for piece in part.partition("="))
            if not (name and equals and target):
                raise ValueError(f"'{part}' is no alias; write name=target, several with commas between them")
            aliases[name] = target
        return aliases

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        """`key` belongs to the default owner, `owner=key` to that owner. Returns owner by key."""
        if not isinstance(value, str):
            return value
        keys: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in value.split(","))):
            owner, equals, key = (piece.strip() for piece in part.partition("="))
            if equals and not (owner and key.strip("=")):
                raise ValueError("an entry has an empty owner or key; write key or owner=key")
            key, owner = (key, owner) if equals else (owner, DEFAULT_OWNER)
            if keys.setdefault(key, owner) != owner:
                raise ValueError(f"'{owner}' and '{keys[key]}' have the same key; give each owner its own")
        return keys

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
        if not self.api_keys and self.host not in _LOOPBACK:
            raise ThreadholdError(
                f"HOST is {self.host}, which others can reach, but API_KEYS is empty. "
                "Set API_KEYS, or serve on 127.0.0.1."
            )

    @property
    def access(self) -> Access:
        """Who may come in. Behind keys any `Host` may, unless ALLOWED_HOSTS says which."""
        any_host = self.host not in _LOOPBACK and not self.allowed_hosts
        return Access(
            keys=self.api_keys,
            hosts=None if any_host else {*self.allowed_hosts, self.host},
            origins=self.cors_origins,
            max_body_bytes=self.max_body_bytes,
        )


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the app for these settings, those of the environment by default. Raises ThreadholdError."""
    settings = settings or Settings()
    settings.check()
    upstream = Upstream(
        settings.model_url or None,
        api_key=settings.model_api_key or None,
        timeout_s=settings.upstream_timeout_s,
        aliases=settings.model_aliases,
        default_model=settings.default_model,
    )

    @asynccontextmanager
    async def open_house() -> AsyncIterator[House]:
        store = await open_store(settings.database)
        caller = ActionCaller(
            allow_hosts=settings.actions_allow_hosts,
            timeout_s=settings.action_timeout_s,
            max_bytes=settings.action_max_bytes,
        )
        blobs = FolderBlobs(settings.data_dir / "files")
        embedder = None
        ingestion = Ingestion(store, store.library, blobs, store.vectors, embedder, Extractor())
        attachments = Attachments(store, wake=ingestion.wake)
        runner = Runner(
            store,
            Replies(upstream),
            caller,
            attachments=attachments,
            expiry_s=settings.run_expiry_s,
            max_tool_rounds=settings.max_tool_rounds,
        )
        try:
            await blobs.open()
            await upstream.open()
            async with ingestion, runner:
                _tune_interpreter()
                yield House(
                    store=store,
                    upstream=upstream,
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
            await upstream.close()
            await store.close()

    return build_app(open_house, access=settings.access, version=_version())


def _tune_interpreter() -> None:
    """Everything that is loaded by now stays: the collector need not look at it again. Its pauses were the p99.

    The writer gives the interpreter up at every SQL statement; with the default interval of 5 ms it got it back so
    late, while the event loop was busy, that a commit of 1 ms took 6. Measured: first token 8.8 → 6.5 ms.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class _Server(uvicorn.Server):
    """uvicorn waits for open connections before the lifespan ends; streams end only when their runs do. So runs are
    drained first, while the server still answers."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then shut down."""
        house: House | None = getattr(self._app.state, "house", None)
        if house is not None:
            if house.runner.executing:
                logger.info("waiting up to %g s for %d runs", self._drain_s, house.runner.executing)
            await house.runner.drain(self._drain_s)
        await super().shutdown(sockets)


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
    try:
        given = {name: value for name in ("host", "port") if (value := getattr(options, name)) is not None}
        settings = Settings(**given)
        app = create_app(settings)
        listening = _listen(settings.host, settings.port)
    except ValidationError as error:
        sys.exit("\n".join(f"threadhold: {_setting_name(one)}: {one['msg']}" for one in error.errors()))
    except (ThreadholdError, OSError) as error:
        sys.exit(f"threadhold: {error}")
    _announce(settings, listening.getsockname()[1])
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here depends on the client's address or scheme
        timeout_graceful_shutdown=5,
        server_header=False,
        lifespan="off",  # `_serve` enters it, so that what goes wrong in it can be told in a sentence
    )
    server = _Server(config, app, settings.drain_s)
    # uvicorn raises the signals that stopped it once more when it is done; a stop that was asked for is no failure.
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, lambda *_: sys.exit(0))
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(app, server, listening))
    except ThreadholdError as error:
        sys.exit(f"threadhold: {error}")


async def _serve(app: FastAPI, server: uvicorn.Server, listening: socket.socket) -> None:
    async with app.router.lifespan_context(app):
        await server.serve(sockets=[listening])


def _setting_name(error: Any) -> str:
    return str(error["loc"][0]).upper() if error["loc"] else "settings"


def _listen(host: str, port: int) -> socket.socket:
    """Open the port. Raises OSError with what to do when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise OSError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another with PORT or --port"
        ) from error
    return listening


def _announce(settings: Settings, port: int) -> None:
    """Say where it is, what it works with, and how to try it."""
    url = f"http://{settings.host}:{port}"
    unused = [name for name in _NOT_BUILT if getattr(settings, name.lower())]
    if unused:
        logger.warning("%s: not built yet, and not used", ", ".join(unused))
    if settings.model_url:
        logger.info("models: %s", urlsplit(settings.model_url)._replace(query="").geturl().rpartition("@")[2])
    else:
        logger.warning("no model: set MODEL_URL to an OpenAI-compatible server, such as http://127.0.0.1:8080/v1")
    logger.info("store: %s", settings.database)
    logger.info("threadhold %s serves on %s (documents at %s/docs); try: curl -s %s/ready", _version(), url, url, url)


def _version() -> str:
    try:
        return version("threadhold")
    except PackageNotFoundError:
        return "0+checkout"


if __name__ == "__main__":
    main()
