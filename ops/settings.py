"""Defines every setting with its type, default, description and checks. Only `server.py` loads them.

`docs/settings.md` is generated from this module; `make reference` writes it.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from api.hosts import is_loopback
from ops.files import ignored_entries, read_text, read_toml
from ops.upstream_settings import ToolCalls, UpstreamSettings, sendable
from store.backend import configured_database
from store.ports import Database, StoredKey
from telemetry.log import Format, Level
from telemetry.masking import url_secrets
from wire.errors import InvalidSetting, ThreadholdError
from wire.lists import split_aliases, split_hosts, split_keys, split_networks, split_origins

if TYPE_CHECKING:  # takes a second to import, so `access` imports it when the port is open
    from api.app import Access

__all__ = ["DOTENV", "SECRETS", "TOML", "Settings"]

DOTENV, TOML = ".env", "threadhold.toml"
SECRETS: Final = "/run/secrets"
"""Where engines mount secrets into containers: a file for each, with the name of a setting."""
_NOT_BUILT = ("REDIS_URL", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET_NAME")
Names = Annotated[tuple[str, ...], NoDecode]


_LISTS: Final = {
    "cors_origins": split_origins,
    "allowed_hosts": split_hosts,
    "actions_allow_hosts": split_networks,
}


class Settings(BaseSettings):
    """Every setting: from the environment, else `.env`, else `threadhold.toml` (lower-case keys), else `SECRETS`."""

    model_config = SettingsConfigDict(env_file=DOTENV, toml_file=TOML, extra="ignore", frozen=True, allow_inf_nan=False)

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. Any address other than loopback requires API_KEYS or a stored key.",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(3000, description="Port to listen on.")
    model_url: str = Field(
        "",
        description=(
            "The model's OpenAI-compatible address, with or without `/chat/completions`. Without it, the built-in "
            "engine answers."
        ),
    )
    model_api_key: str = Field("", description="Key for MODEL_URL. A client's own key is never sent there.")
    default_model: str = Field(
        "", description="Model for requests that name none. Without it, the first model that the engine lists."
    )
    model_path: Path | None = Field(
        None, description="A GGUF file, or a folder of them, for the built-in engine. Without it, the demo model."
    )
    model_context_size: Annotated[int, Field(ge=256)] = Field(
        8_192,
        description=(
            "Context of a built-in model for each answer, in tokens. It is never larger than the context that the "
            "model was trained with. A larger context needs more memory."
        ),
    )
    model_parallel: Annotated[int, Field(ge=1)] = Field(
        2, description="Concurrent answers of a built-in model, each with its own context. Further requests wait."
    )
    model_threads: Annotated[int, Field(ge=0)] = Field(
        0, description="Threads of a built-in model. 0 means half of the processors."
    )
    max_reply_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description=(
            "Longest answer or function call, in tokens, if the client sets no limit. Without it: 256 for the demo "
            "model, 1,024 for other built-in models, no limit for other engines."
        ),
    )
    model_aliases: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="`name=target`, separated by commas. `*` stands for all other names of models that generate text.",
    )
    upstreams: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], UpstreamSettings] = Field(
        {}, description="Further upstreams: the tables `[upstreams.NAME]` of threadhold.toml. In the environment: JSON."
    )
    tool_calls: ToolCalls = Field("auto", description="How models call functions.")
    prompts: dict[str, str] = Field(
        {},
        description=(
            "The table `[prompts]` of threadhold.toml: texts that replace those of `chains/prompts.py`, by name. In "
            "the environment: JSON."
        ),
    )
    embeddings_model: str = Field(
        "",
        description=(
            "Model that embeds files and queries, at MODEL_URL's `/embeddings`, or `upstream/model`. Without it, "
            "the built-in model. Files that were indexed with another model are found by words only, until they are "
            "added again."
        ),
    )
    database_url: str = Field(
        "",
        description=(
            "Address of the database: `sqlite:///path`. Without it, `threadhold.db` in DATA_DIR. Other databases are "
            "not supported."
        ),
    )
    data_dir: Path = Field(Path("data"), description="Folder of the database, and of uploaded files in `files/`.")
    api_keys: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description=(
            "`key` or `owner=key`, separated by commas. Owners see only their own objects. The owner of a bare key "
            "is `default`, who also owns everything that was created without keys. Without these keys and stored ones "
            "(`threadhold keys create`), the server is open: it requires no key."
        ),
    )
    cors_origins: Names = Field(
        (),
        description=(
            "Origins whose pages can call the server, separated by commas. `null` stands for pages opened from disk, "
            "`*` for every origin."
        ),
    )
    allowed_hosts: Names = Field(
        (),
        description=(
            "`Host` names to accept besides the loopback names, separated by commas. If HOST is loopback, no others "
            "are accepted, which prevents DNS rebinding. With any other HOST, an empty list accepts every name."
        ),
    )
    actions_allow_hosts: Names = Field(
        (),
        description="Private, loopback or link-local addresses that actions can call: names, addresses or CIDRs.",
    )
    action_timeout_s: Annotated[float, Field(gt=0)] = Field(
        30.0, description="Longest time for a call of an action, in seconds, including the wait for a connection."
    )
    action_max_bytes: Annotated[int, Field(gt=0)] = Field(
        65_536, description="Longest response of an action, in bytes."
    )
    upstream_timeout_s: Annotated[float, Field(gt=0)] = Field(
        600.0,
        description="Longest time without data from a model, and longest time to load a built-in model, in seconds.",
    )
    upstream_retries: Annotated[int, Field(ge=0, le=10)] = Field(
        2,
        description=(
            "How often a model call is retried after a transient failure: no connection, 408, 409, 425, 429, 5xx, or "
            "a stream that breaks off. Calls are retried only before the first text or tool call of the answer."
        ),
    )
    upstream_retry_max_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        60.0,
        description=(
            "Longest wait before a retry, in seconds, even if `Retry-After` asks for more. Without `Retry-After`, "
            "the waits are about 0.5, 1, 2, 4 and then 8 s."
        ),
    )
    run_expiry_s: Annotated[int, Field(gt=0)] = Field(
        600, description="Seconds after which a run expires. Time in the queue counts."
    )
    max_tool_rounds: Annotated[int, Field(ge=1)] = Field(
        20, description="Maximum rounds of tool calls in a run. The reply after the last round has no tools."
    )
    max_runs: Annotated[int, Field(ge=1)] = Field(
        1024,
        description=(
            "Runs that are executed concurrently; further runs are queued. Runs that wait for outputs do not count. "
            "The same limit applies separately to model calls that are not part of a run."
        ),
    )
    max_run_memory_bytes: Annotated[int, Field(gt=0)] = Field(
        512 * 1024 * 1024,
        description=(
            "Estimated memory for the histories, pictures and outputs of executing runs. Runs beyond it are queued."
        ),
    )
    max_queued_runs: Annotated[int, Field(ge=0)] = Field(
        10_000,
        description=(
            "Runs that can be queued; further runs get 429 with `Retry-After`. The same limit applies separately to "
            "other model calls."
        ),
    )
    max_runs_per_owner: Annotated[int, Field(ge=1)] | None = Field(None, description="As MAX_RUNS, for each owner.")
    max_queued_runs_per_owner: Annotated[int, Field(ge=0)] | None = Field(
        None, description="As MAX_QUEUED_RUNS, for each owner."
    )
    max_connections: Annotated[int, Field(ge=1)] = Field(
        8192,
        description=(
            "Maximum number of client connections. Further ones replace idle ones, or get 503 with `Retry-After`. The "
            "limit is lower if the process can open fewer than twice as many files."
        ),
    )
    drain_s: Annotated[float, Field(ge=0)] = Field(
        10.0, description="Seconds that runs can continue after SIGTERM. The next start resumes the others."
    )
    max_body_bytes: Annotated[int, Field(gt=0)] = Field(10 * 1024 * 1024, description="Longest JSON body, in bytes.")
    max_file_bytes: Annotated[int, Field(gt=0)] = Field(
        512 * 1024 * 1024, description="Longest file that can be uploaded, in bytes."
    )
    retention_days: Annotated[float, Field(ge=0, le=36_500)] = Field(
        0, description="Days without use after which a thread is deleted. 0 means never."
    )
    unknown_fields: Literal["refuse", "ignore"] = Field(
        "refuse",
        description=(
            "What happens to request fields that the API does not have: `refuse` responds with 400, as OpenAI did; "
            "`ignore` leaves them out."
        ),
    )
    metrics_key: str = Field(
        "",
        description=(
            "Key for `/metrics`, sent as `Authorization: Bearer`. Without it, `/metrics` is open in open mode, and "
            "closed while the server requires keys."
        ),
    )
    log_level: Level = Field("info", description="Lowest level that is logged.")
    log_format: Format = Field(
        "auto",
        description="`text` for people, `json` for machines. `auto` is text if stderr is a terminal, otherwise JSON.",
    )
    log_content: bool = Field(
        False, description="Whether the log includes the texts of users and models, and quotations of them in errors."
    )
    redis_url: str = Field(
        "", description="Reserved. It has no effect yet, and the server logs a warning if it is set."
    )
    s3_endpoint: str = Field(
        "", description="Reserved. It has no effect yet, and the server logs a warning if it is set."
    )
    s3_access_key: str = Field(
        "", description="Reserved. It has no effect yet, and the server logs a warning if it is set."
    )
    s3_secret_key: str = Field(
        "", description="Reserved. It has no effect yet, and the server logs a warning if it is set."
    )
    s3_bucket_name: str = Field(
        "", description="Reserved. It has no effect yet, and the server logs a warning if it is set."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add the TOML file, and then the files of secrets that an engine mounts into a container."""
        sources = (init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls))
        if not os.access(SECRETS, os.R_OK | os.X_OK):
            return sources
        return (*sources, SecretsSettingsSource(settings_cls, secrets_dir=SECRETS))

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
        return sendable(value)

    @property
    def database(self) -> Database:
        """The store's database, which is not open. Raises InvalidSetting for one that is not supported."""
        return configured_database(self.database_url, self.data_dir)

    @property
    def is_shared(self) -> bool:
        """Whether there are keys of several owners, so that no owner can use the whole capacity. Reads the store."""
        return len({*self.api_keys.values(), *(key.owner for key in self._stored_keys())}) > 1

    def _stored_keys(self) -> list[StoredKey]:
        """Return the stored keys; none if they cannot be read, which prevents a start later."""
        with suppress(ThreadholdError):
            return self.database.keys.all()
        return []

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
        if not self.api_keys and not is_loopback(self.host) and not faults and not self._stored_keys():
            faults.append(
                f"HOST is {self.host or 'every address'}, which others can reach, but API_KEYS is empty and no key is "
                "stored. Create one with `threadhold keys create`, set API_KEYS, or serve on 127.0.0.1."
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
            is_shared=self.is_shared,
        )


def _one_text(value: object) -> object:
    """Return a list of texts, as threadhold.toml can contain it, in the form of the environment."""
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    return value
