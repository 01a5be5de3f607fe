"""What `server.py` passes to the command line: the settings that commands read, and the factories of what they use."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from store.ports import Database
from telemetry.log import Format, Level

if TYPE_CHECKING:  # takes a second to import, so commands import it when they need it
    from fastapi import FastAPI

    from chains import ModelRouter

__all__ = ["Factories", "ServerSettings"]


class NamedUpstream(Protocol):
    """What commands read of one `[upstreams.NAME]`."""

    @property
    def url(self) -> str: ...
    @property
    def provider(self) -> str: ...


class ServerSettings(Protocol):
    """A read-only view of `server.Settings`. docs/settings.md describes each setting."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def max_connections(self) -> int: ...
    @property
    def drain_s(self) -> float: ...
    @property
    def model_url(self) -> str: ...
    @property
    def model_path(self) -> Path | None: ...
    @property
    def default_model(self) -> str: ...
    @property
    def embeddings_model(self) -> str: ...
    @property
    def upstreams(self) -> Mapping[str, NamedUpstream]: ...
    @property
    def data_dir(self) -> Path: ...
    @property
    def retention_days(self) -> float: ...
    @property
    def api_keys(self) -> Mapping[str, str]: ...
    @property
    def unknown_fields(self) -> Literal["refuse", "ignore"]: ...
    @property
    def log_level(self) -> Level: ...
    @property
    def log_format(self) -> Format: ...
    @property
    def log_content(self) -> bool: ...
    @property
    def secrets(self) -> Collection[str]:
        """Values that must not be shown anywhere."""
        ...

    @property
    def database(self) -> Database:
        """The store's database, which is not open. Raises ThreadholdError for one that is not supported."""
        ...

    @property
    def unused(self) -> list[str]:
        """Names of settings that are set but have no effect."""
        ...

    @property
    def ignored_entries(self) -> list[str]:
        """A sentence for each entry of the settings files that sets nothing."""
        ...

    def check(self) -> None:
        """Refuse settings that must not be served. Raises ThreadholdError with a line for each fault."""
        ...


@dataclass(frozen=True, slots=True)
class Factories:
    """`settings` takes the options of the command line and raises InvalidSetting."""

    settings: Callable[..., ServerSettings]
    # `Any`: they take what `settings` returns, which has more than `ServerSettings`.
    app: Callable[[Any], "FastAPI"]
    router: Callable[[Any], "ModelRouter"]
    version: str
