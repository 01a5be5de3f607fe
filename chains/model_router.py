"""Combines several upstreams: routes each model name to one of them, and lists their models together.

Invariants: only the configuration determines routing. `name/model` is a model of the upstream of that name. A bare name
is routed to the one upstream that has it; an ambiguous one is an error that names the candidates. A name that no
upstream has goes to the unnamed upstream at MODEL_URL, which is first and whose models keep their bare names. An
upstream that is down hides no other.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Final

from langchain_core.messages import AIMessageChunk

from chains.aliases import Aliases
from chains.chat_types import ModelDetails, ModelEntry
from chains.context import Prompt
from chains.forwarding import CHAT, GENERATING, Body, model_of, with_model
from chains.ports import ChatBackend, ModelSource
from chains.reply import ReplyCall
from chains.upstream_response import UpstreamResponse
from wire.errors import InvalidRequest, Problem, PromptRefused, RunError, UpstreamProblem

__all__ = ["ModelRouter", "Route", "RoutedUpstream"]

_SHOWN: Final = 20

_log = logging.getLogger("threadhold.chains")


@dataclass(frozen=True, slots=True)
class RoutedUpstream:
    """One upstream. `name` is empty for MODEL_URL's; `models` is empty if the upstream's listing applies."""

    name: str
    source: ModelSource
    backend: ChatBackend
    models: tuple[str, ...] = ()

    def names(self) -> Sequence[str]:
        """Return the models that it is known to have."""
        return self.models or self.source.names()

    def qualified(self, model: str) -> str:
        """Return the name that means this upstream's model, whatever models the other upstreams have."""
        return f"{self.name}/{model}" if self.name else model


@dataclass(frozen=True, slots=True)
class Route:
    """The upstream of a call, and the model's name there; empty means its default."""

    upstream: RoutedUpstream
    model: str


class ModelRouter:
    """The upstreams, MODEL_URL's first, then in the order of `threadhold.toml`; each call goes to that of its model.
    `open` before use, `close` after."""

    def __init__(
        self, upstreams: Sequence[RoutedUpstream], *, aliases: Mapping[str, str] | None = None, default_model: str = ""
    ) -> None:
        """Connects to nothing. At least one upstream is required."""
        self.upstreams = tuple(upstreams)
        self._aliases = Aliases(aliases or {})
        self._default = default_model
        self._named = {upstream.name: upstream for upstream in upstreams if upstream.name}

    async def open(self) -> None:
        """Open every upstream."""
        for upstream in self.upstreams:
            await upstream.source.open()

    async def close(self) -> None:
        """Close every upstream, even if closing one of them fails."""
        async with AsyncExitStack() as stack:
            for upstream in self.upstreams:
                stack.push_async_callback(upstream.source.close)

    # --- routing --------------------------------------------------------------------------------------------------

    async def route(self, name: str) -> Route:
        """Return the route of calls to the model of that name; waits for listings only the first time.

        Raises PromptRefused for a name that is ambiguous or that no upstream has.
        """
        if (route := self._known_route(name)) is not None:
            return route
        await asyncio.gather(
            *(upstream.source.wait_for_listing() for upstream in self.upstreams if not upstream.models)
        )
        return self._by_listing(self._resolve_alias(name))

    def _resolve_alias(self, name: str) -> str:
        wanted = name.strip() or self._default
        return self._aliases.target(wanted) or wanted if wanted else ""

    def _known_route(self, name: str) -> Route | None:
        """Return the route, None if it depends on a listing that has not arrived yet. Raises PromptRefused."""
        wanted = self._resolve_alias(name)
        first = self.upstreams[0]
        if not self._named:
            return Route(first, wanted)
        if not wanted:
            return Route(first, first.models[0] if first.models else "")
        prefix, slash, rest = wanted.partition("/")
        if slash and (upstream := self._named.get(prefix)) is not None:
            return Route(upstream, self._allowed(upstream, rest))
        if not all(upstream.models or upstream.source.has_listed for upstream in self.upstreams):
            return None
        return self._by_listing(wanted)

    @staticmethod
    def _allowed(upstream: RoutedUpstream, model: str) -> str:
        if not model:
            return upstream.models[0] if upstream.models else ""
        if upstream.models and model not in upstream.models:
            has = _join_names(f"{upstream.name}/{one}" for one in upstream.models)
            raise PromptRefused(f"`models` of the upstream `{upstream.name}` does not have `{model}`; it has {has}.")
        return model

    def _by_listing(self, wanted: str) -> Route:
        """Return the route to the one upstream that has the name, else to the unnamed one. Raises PromptRefused."""
        first = self.upstreams[0]
        if (route := self._listed(wanted)) is not None:
            return route
        if not first.name:
            return Route(first, wanted)
        has = _join_names(upstream.qualified(model) for upstream in self.upstreams for model in upstream.names())
        advice = f"Use one of {has}." if has else "No models are listed."
        raise PromptRefused(f"No upstream has the model `{wanted}`. {advice}")

    def _listed(self, wanted: str) -> Route | None:
        """Return the route to the one upstream that has the name, None if none has. Raises PromptRefused if several
        have.

        If the unnamed upstream has no listing, another is chosen only if its configured `models` have the name: no
        request goes to another host because this one is down.
        """
        first = self.upstreams[0]
        having = [upstream for upstream in self.upstreams if wanted in upstream.names()]
        if not first.name and (first in having or not first.source.names()):
            having = [upstream for upstream in having if upstream is first or (upstream.models and first not in having)]
        if len(having) > 1:
            candidates = _join_names(upstream.qualified(wanted) for upstream in having)
            raise PromptRefused(f"Several upstreams have the model `{wanted}`: name one of {candidates}.")
        return Route(having[0], wanted) if having else None

    def _known_route_or_none(self, name: str) -> Route | None:
        try:
            return self._known_route(name)
        except RunError:
            return None

    # --- calls of runs --------------------------------------------------------------------------------------------

    def stream(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Yield the answer as it arrives; the backend's own stream if the route is known. Raises RunError."""
        route = self._known_route(call.model)
        if route is None:
            return self._stream_later(call)
        return route.upstream.backend.stream(call if route.model == call.model else replace(call, model=route.model))

    async def _stream_later(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        route = await self.route(call.model)
        stream = route.upstream.backend.stream(replace(call, model=route.model))
        async with aclosing(stream):
            async for chunk in stream:
                yield chunk

    def context_limit(self, model: str) -> int | None:
        """Return the model's context length in tokens, None if it is unknown."""
        route = self._known_route_or_none(model)
        return None if route is None else route.upstream.backend.context_limit(route.model)

    async def fit(self, model: str, prompt: Prompt, *, answer: int | None) -> Prompt:
        """Return the prompt shortened to the model's context, with space for an answer of up to `answer` tokens."""
        route = self._known_route(model) or await self.route(model)
        return await route.upstream.backend.fit(route.model, prompt, answer=answer)

    async def calls_natively(self, model: str) -> bool:
        """Whether the model's server makes tool calls itself; may ask the server the first time. Raises RunError."""
        route = self._known_route(model) or await self.route(model)
        return await route.upstream.backend.calls_natively(route.model)

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context length, in tokens, that an upstream stated."""
        if (route := self._known_route_or_none(model)) is not None:
            route.upstream.backend.learn_limit(route.model, limit)

    def tokens_per_char(self, model: str) -> float:
        """Return the estimate for this model, which every answer's usage corrects."""
        route = self._known_route_or_none(model)
        upstream, known = (self.upstreams[0], "") if route is None else (route.upstream, route.model)
        return upstream.backend.tokens_per_char(known)

    def calibrate(self, model: str, *, chars: int, prompt_tokens: int) -> None:
        """Correct the estimate with the token count of a prompt of `chars` characters."""
        if (route := self._known_route_or_none(model)) is not None:
            route.upstream.backend.calibrate(route.model, chars=chars, prompt_tokens=prompt_tokens)

    # --- requests of clients --------------------------------------------------------------------------------------

    async def models(self) -> list[ModelEntry]:
        """Return the entries of all upstreams, each with its shortest unambiguous id.

        Raises Problem if no upstream could be listed.
        """
        listings = await asyncio.gather(*map(_listing, self.upstreams))
        entries = [entries for entries in listings if not isinstance(entries, Problem)]
        if not entries:
            raise next(problem for problem in listings if isinstance(problem, Problem))
        listed = [list(of_upstream) if not isinstance(of_upstream, Problem) else [] for of_upstream in listings]
        having: dict[str, int] = {}
        for entry in (entry for of_upstream in listed for entry in of_upstream):
            having[entry["id"]] = having.get(entry["id"], 0) + 1
        return [
            {**entry, "id": upstream.qualified(entry["id"]) if having[entry["id"]] > 1 else entry["id"]}
            for upstream, of_upstream in zip(self.upstreams, listed, strict=True)
            for entry in of_upstream
        ]

    async def check(self) -> str | None:
        """Return None if every upstream answers, else which ones do not, and why."""
        reasons = await asyncio.gather(*(upstream.source.check() for upstream in self.upstreams))
        if not self._named:
            return reasons[0]
        names = (f"`{upstream.name}`" if upstream.name else "the unnamed one" for upstream in self.upstreams)
        return " ".join(f"{name}: {why}" for name, why in zip(names, reasons, strict=True) if why) or None

    async def pass_through(self, body: Body, path: str = CHAT) -> UpstreamResponse:
        """Send a client's own request to the upstream of its model. Raises Problem."""
        model = model_of(body)
        try:
            route = await (self.route(model) if path in GENERATING else self._named_route(model))
        except PromptRefused as error:
            raise InvalidRequest(error.message, param="model", code="model_not_found") from error
        except RunError as error:
            raise UpstreamProblem(error.message, http_status=502) from error
        return await route.upstream.source.pass_through(with_model(body, route.model), path)

    async def _named_route(self, name: str) -> Route:
        """Return the route of a request that does not generate text.

        The default model and `*` of MODEL_ALIASES do not apply, because they are for models that generate text.
        """
        wanted = self.alias(name)
        if not wanted or not self._named:
            return Route(self.upstreams[0], wanted)
        return await self.find(name) or self._by_listing(wanted)

    def alias(self, name: str) -> str:
        """Return the target of exactly this name in MODEL_ALIASES, else the name."""
        return self._aliases.exact(name.strip())

    async def find(self, name: str) -> Route | None:
        """Return the upstream that a name's prefix means, or that lists the model; None if there is neither.

        MODEL_ALIASES applies, without `*`. Waits for listings the first time. Raises PromptRefused.
        """
        wanted = self.alias(name)
        prefix, slash, rest = wanted.partition("/")
        if slash and rest and (upstream := self._named.get(prefix)) is not None:
            return Route(upstream, self._allowed(upstream, rest))
        await asyncio.gather(
            *(upstream.source.wait_for_listing() for upstream in self.upstreams if not upstream.models)
        )
        return self._listed(wanted) if wanted else None


async def _listing(upstream: RoutedUpstream) -> list[ModelEntry] | Problem:
    """Return an upstream's entries, or why it could not be listed.

    Models that `threadhold.toml` names need no request. The entries of named upstreams have its name as the owner.
    """
    if upstream.models:
        return [_owned(upstream, {"id": model, "object": "model", "created": 0}) for model in upstream.models]
    try:
        return [_owned(upstream, entry) for entry in await upstream.source.models()]
    except Problem as problem:
        if upstream.name:
            _log.warning("the models of the upstream `%s` could not be listed: %s", upstream.name, problem.message)
        return problem


def _owned(upstream: RoutedUpstream, entry: ModelEntry) -> ModelEntry:
    if not upstream.name:
        return entry
    ours: ModelDetails = {**(entry.get("threadhold") or {}), "model": upstream.qualified(entry["id"])}
    return {"owned_by": upstream.name, **entry, "threadhold": ours}


def _join_names(names: Iterable[str]) -> str:
    listed = [f"`{name}`" for name in names]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
