"""Resolves model names, and keeps what the upstream reports about its models.

A name that needs no listing is resolved without one: a listing that fails or hangs never fails or slows such a run.
One fetch runs at a time. A stale listing stays in use while a new one is fetched in the background.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from chains.aliases import Aliases
from chains.chat_types import ModelEntry
from chains.model_facts import ModelFacts
from wire.assistants import MAX_MODEL_NAME
from wire.errors import PromptRefused, RunError, UpstreamFailed

__all__ = ["Models", "listed_limit"]

_FRESH_S: Final = 30.0
_RETRY_DELAY_S: Final = 30.0
"""Delay after a failed fetch before a run's model name triggers another."""
_LIMIT_NAMES: Final = (
    "loaded_context_length",
    "max_model_len",
    "max_context_length",
    "context_length",
    "context_window",
)
_MIN_LEARNED: Final = 256
"""Smaller limits are ignored: older vLLM reports its context less `max_tokens`, which can be almost zero."""

_log = logging.getLogger("threadhold.chains")


class Models:
    """Aliases, the listing with its age, and context limits, listed or learned from refusals."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[list[ModelEntry]]],
        *,
        aliases: Mapping[str, str],
        default: str,
    ) -> None:
        self._fetch = fetch
        self._aliases = Aliases(aliases)
        self._default = default
        self._listing: list[ModelEntry] | None = None
        self._fetched_at = float("-inf")
        self._failed_at = float("-inf")
        self._flight: asyncio.Task[list[ModelEntry]] | None = None
        self._learned: ModelFacts[int] = ModelFacts()

    async def listing(self, *, max_age_s: float = _FRESH_S) -> list[ModelEntry]:
        """Return the upstream's entries, at most `max_age_s` old. Raises RunError."""
        if self._listing is not None and time.monotonic() - self._fetched_at <= max_age_s:
            return self._listing
        return await asyncio.shield(self._refresh())

    async def resolve(self, name: str) -> str:
        """Return the name to send: the alias, else the name without its organization if only that is listed.

        An empty name means the default, else the first model listed.

        Raises:
            UpstreamFailed: if no model is named and none is listed.
            PromptRefused: if the name is too long.
        """
        wanted = name.strip() or self._default
        if not wanted:
            return await self._first()
        if len(wanted) > MAX_MODEL_NAME:  # it would become part of URLs
            raise PromptRefused(f"The model's name has {len(wanted)} characters; at most {MAX_MODEL_NAME} are allowed.")
        if (target := self._aliases.target(wanted)) is not None:
            return target
        self._keep_fresh()
        return await self._without_organisation(wanted) if "/" in wanted else wanted

    def names(self) -> list[str]:
        """Return the ids last listed; empty before the first listing."""
        return [entry["id"] for entry in self._listing or ()]

    def entry(self, model: str) -> ModelEntry | None:
        """Return the model's entry as last listed."""
        return next((entry for entry in self._listing or () if entry["id"] == model), None)

    @property
    def has_listed(self) -> bool:
        """Whether waiting cannot improve `names`: there is a listing, or a fetch has just failed."""
        return self._listing is not None or self._failed_recently()

    async def wait_for_listing(self) -> None:
        """Wait for the first listing; later ones are fetched in the background. A listing that fails raises nothing."""
        if not self.has_listed:
            with contextlib.suppress(RunError):
                await asyncio.shield(self._refresh())
        self._keep_fresh()

    def known_as(self, name: str) -> str:
        """Return what `resolve` would return, as far as that is known without waiting."""
        wanted = name.strip() or self._default
        listed = self.names()
        if not wanted:
            return listed[0] if listed else ""
        if (target := self._aliases.target(wanted)) is not None:
            return target
        bare = wanted.rsplit("/", 1)[-1]
        return bare if wanted not in listed and bare in listed else wanted

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context limit, in tokens, that a refusal stated; limits below `_MIN_LEARNED` are ignored."""
        if limit >= _MIN_LEARNED:
            self._learned[model] = limit

    def context_limit(self, model: str) -> int | None:
        """Return the model's context length in tokens as listed, None if it is not. Never waits."""
        entry = self.entry(model)
        return None if entry is None else listed_limit(entry)

    def learned_limit(self, model: str) -> int | None:
        """Return the context length that a refusal stated, in tokens."""
        return self._learned.get(model)

    async def close(self) -> None:
        """Cancel a running fetch."""
        if self._flight is not None:
            self._flight.cancel()
            with contextlib.suppress(asyncio.CancelledError, RunError):
                await self._flight
            self._flight = None

    async def _first(self) -> str:
        listing = self._listing if self._listing and not self._stale() else await self.listing()
        if not listing:
            raise UpstreamFailed("No model was named and the upstream lists none. Set DEFAULT_MODEL.")
        name: str = listing[0]["id"]
        return name

    async def _without_organisation(self, name: str) -> str:
        listed = self.names()
        bare = name.rsplit("/", 1)[-1]
        if name not in listed and bare not in listed and self._stale() and not self._failed_recently():
            with contextlib.suppress(RunError):
                await asyncio.shield(self._refresh())
            listed = self.names()
        return bare if name not in listed and bare in listed else name

    def _stale(self) -> bool:
        return time.monotonic() - self._fetched_at > _FRESH_S

    def _failed_recently(self) -> bool:
        return time.monotonic() - self._failed_at < _RETRY_DELAY_S

    def _keep_fresh(self) -> None:
        if self._stale() and not self._failed_recently():
            self._refresh()

    def _refresh(self) -> "asyncio.Task[list[ModelEntry]]":
        """Return the running fetch, or start one; this object owns it and `close` ends it."""
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._update(), name="upstream-models")
            self._flight.add_done_callback(_log_failure)
        return self._flight

    async def _update(self) -> list[ModelEntry]:
        try:
            self._listing = await self._fetch()
        except RunError:
            self._failed_at = time.monotonic()
            raise
        self._fetched_at = time.monotonic()
        return self._listing


def listed_limit(entry: Mapping[str, object]) -> int | None:
    """Return the context length in a `/models` entry, in tokens, None if it has none."""
    meta = entry.get("meta")
    limits = [entry.get(name) for name in _LIMIT_NAMES] + [meta.get("n_ctx") if isinstance(meta, dict) else None]
    return next((value for value in limits if type(value) is int and value > 0), None)


def _log_failure(flight: "asyncio.Task[list[ModelEntry]]") -> None:
    # Nothing else retrieves the error of a background refresh; code that awaits the fetch gets it as well.
    if not flight.cancelled() and (error := flight.exception()) is not None:
        _log.debug("cannot list the upstream's models: %s", error)
