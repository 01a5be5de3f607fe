"""What `server.py` hands to the command line: the settings, as far as commands read them, and what is made of them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from telemetry.log import Format, Level

if TYPE_CHECKING:  # they take a second to import; commands do, when they need them
    from fastapi import FastAPI

    from chains import Routes

__all__ = ["Configured", "Parts"]


class Configured(Protocol):
    """`server.Settings`, read only; the README says what each is."""

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
    def upstreams(self) -> Mapping[str, Any]: ...
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
        """What must not be shown anywhere."""
        ...

    @property
    def database(self) -> Path | str:
        """The store's file. Raises ThreadholdError for what is not built."""
        ...

    @property
    def unused(self) -> list[str]:
        """Names of settings that are set and not built."""
        ...

    @property
    def doubts(self) -> list[str]:
        """Sentences on what stands in the files of settings and sets nothing."""
        ...

    def check(self) -> None:
        """Refuse what must not be served. Raises ThreadholdError with a sentence."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """How things are made. `settings` takes what the command line gives and raises InvalidSetting."""

    settings: Callable[..., Configured]
    app: Callable[[Any], "FastAPI"]
    routes: Callable[[Any], "Routes"]
    version: str
