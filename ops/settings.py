"""Defines every setting with its type, default and checks. Only `server.py` loads them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from api.hosts import is_loopback
from ops.files import ignored_entries, read_text, read_toml
from store.backend import configured_database
from store.ports import Database
from telemetry.log import Format, Level
from telemetry.masking import url_secrets
from wire.errors import InvalidSetting
from wire.lists import is_sendable, split_aliases, split_hosts, split_keys, split_networks, split_origins

if TYPE_CHECKING:  # takes a second to import, so `access` imports it when the port is open
    from api.app import Access

__all__ = ["DOTENV", "TOML", "Settings", "UpstreamSettings"]

DOTENV, TOML = ".env", "threadhold.toml"
_NOT_BUILT = ("REDIS_URL", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET_NAME")
Names = Annotated[tuple[str, ...], NoDecode]
ToolCalls = Literal["auto", "native", "schema", "prompt"]  # as in chains.calls, which takes long to import


_LISTS: Final = {
    "cors_origins": split_origins,
    "allowed_hosts": split_hosts,
    "actions_allow_hosts": split_networks,
}


class UpstreamSettings(BaseModel):
    """One `[upstreams.NAME]` of threadhold.toml. Unknown keys are refused: a typing error would go unnoticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = ""
    api_key: str = Field("", repr=False)
    models: tuple[str, ...] = ()
    provider: str = "openai"
    tool_calls: ToolCalls | None = None

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, value: str) -> str:
        return _sendable(value)

    @model_validator(mode="after")
    def _fits_its_provider(self) -> Self:
        if self.provider == "openai" and not self.url:
            raise ValueError("`url` is missing. Write an OpenAI-compatible address, or another `provider`.")
        if self.provider != "openai" and self.tool_calls:
            raise ValueError(
                "`tool_calls` is for OpenAI-compatible upstreams only. Remove it: other providers are native."
            )
        return self


class Settings(BaseSettings):
    """Every setting, from the environment, else from `.env`, else from `threadhold.toml` (lower-case keys)."""

    model_config = SettingsConfigDict(env_file=DOTENV, toml_file=TOML, extra="ignore", frozen=True, allow_inf_nan=False)

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
    upstream_retries: Annotated[int, Field(ge=0, le=10)] = 2
    upstream_retry_max_s: Annotated[float, Field(ge=0, le=3600)] = 60.0
    run_expiry_s: Annotated[int, Field(gt=0)] = 600
    max_tool_rounds: Annotated[int, Field(ge=1)] = 20
    max_runs: Annotated[int, Field(ge=1)] = 1024
    max_run_memory_bytes: Annotated[int, Field(gt=0)] = 512 * 1024 * 1024
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
    def _split(cls, value: object, info: ValidationInfo) -> object:
        text = _one_text(value)
        return _LISTS[info.field_name or ""](text) if isinstance(text, str) else value

    @field_validator("log_level", "log_format", "unknown_fields", mode="before")
    @classmethod
    def _write_small(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("max_reply_tokens", "max_runs_per_owner", "max_queued_runs_per_owner", mode="before")
    @classmethod
    def _have_no_limit(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("model_path", mode="before")
    @classmethod
    def _find_home(cls, value: object) -> object:
        """Treat an empty text as None, and expand `~` as a shell does."""
        return (Path(value).expanduser() if value else None) if isinstance(value, str) else value

    @field_validator("model_aliases", mode="before")
    @classmethod
    def _split_aliases(cls, value: object) -> object:
        return split_aliases(value) if isinstance(value, str) else value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        text = _one_text(value)
        if isinstance(text, str):
            return split_keys(text)
        if value:  # a table in threadhold.toml would look like owner = key, but its names would be keys
            raise ValueError("it must be one text or a list of texts. Write key or owner=key.")
        return {}

    @field_validator("model_api_key", "metrics_key")
    @classmethod
    def _check_key(cls, value: str) -> str:
        return _sendable(value)

    @property
    def database(self) -> Database:
        """The store's database, which is not open. Raises InvalidSetting for one that is not supported."""
        return configured_database(self.database_url, self.data_dir)

    @property
    def is_shared(self) -> bool:
        """Whether there are keys of several owners, so that no owner can use the whole capacity."""
        return len(set(self.api_keys.values())) > 1

    @property
    def unused(self) -> list[str]:
        """Names of settings that are set but have no effect."""
        return [name for name in _NOT_BUILT if getattr(self, name.lower())]

    @property
    def ignored_entries(self) -> list[str]:
        """A sentence for each entry of the settings files that sets nothing."""
        return ignored_entries(Settings.model_fields, toml=read_toml(TOML), dotenv=read_text(DOTENV))

    @property
    def secrets(self) -> list[str]:
        """Values that must not be shown anywhere, among them the passwords in URLs."""
        own = (self.metrics_key, self.model_api_key, self.s3_access_key, self.s3_secret_key)
        urls = [self.model_url, self.database_url, self.redis_url, self.s3_endpoint]
        urls += [one.url for one in self.upstreams.values()]
        in_urls = [secret for url in urls for secret in url_secrets(url)]
        return [*self.api_keys, *own, *(one.api_key for one in self.upstreams.values()), *in_urls]

    def check(self) -> None:
        """Refuse settings that must not be served. Raises InvalidSetting with a line for each fault."""
        faults: list[str] = []
        try:
            _ = self.database
        except InvalidSetting as error:
            faults.append(error.message)
        if not self.api_keys and not is_loopback(self.host):
            faults.append(
                f"HOST is {self.host or 'every address'}, which others can reach, but API_KEYS is empty. "
                "Set API_KEYS, or serve on 127.0.0.1."
            )
        if faults:
            raise InvalidSetting("\n".join(faults))

    @property
    def access(self) -> "Access":
        """The access rules. A server that others can reach accepts any `Host`, unless ALLOWED_HOSTS is set."""
        from api.app import Access

        any_host = not is_loopback(self.host) and not self.allowed_hosts
        return Access(
            keys=self.api_keys,
            hosts=None if any_host else {*self.allowed_hosts, self.host},
            origins=self.cors_origins,
            max_body_bytes=self.max_body_bytes,
            metrics_key=self.metrics_key,
        )


def _one_text(value: object) -> object:
    """Return a list of texts, as threadhold.toml can contain it, in the form of the environment."""
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    return value


def _sendable(key: str) -> str:
    """Return a key without white space around it. Raises ValueError if it cannot be sent."""
    key = key.strip()
    if not is_sendable(key):
        raise ValueError(
            "it has spaces or characters that HTTP headers cannot carry. Use ASCII letters, digits and punctuation."
        )
    return key
