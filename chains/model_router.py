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
from chains.passage import Passage
from chains.ports import ChatBackend, ModelSource
from chains.reply import ReplyCall
from wire.errors import InvalidRequest, Problem, PromptRefused, RunError, UpstreamProblem

__all__ = ["Member", "ModelRouter", "Route"]

_SHOWN: Final = 20

_log = logging.getLogger("threadhold.chains")


@dataclass(frozen=True, slots=True)
class Member:
    """One upstream. `name` is empty for MODEL_URL's; `models` is empty if the upstream's listing applies."""

    name: str
    source: ModelSource
    speaker: ChatBackend
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

    member: Member
    model: str


class ModelRouter:
    """The upstreams, MODEL_URL's first, then in the order of `threadhold.toml`; each call goes to that of its model.
    `open` before use, `close` after."""

    def __init__(
        self, members: Sequence[Member], *, aliases: Mapping[str, str] | None = None, default_model: str = ""
    ) -> None:
        """Connects to nothing. At least one member is required."""
        self.members = tuple(members)
        self._aliases = Aliases(aliases or {})
        self._default = default_model
        self._named = {member.name: member for member in members if member.name}

    async def open(self) -> None:
        """Open every upstream."""
        for member in self.members:
            await member.source.open()

    async def close(self) -> None:
        """Close every upstream, even if closing one of them fails."""
        async with AsyncExitStack() as stack:
            for member in self.members:
                stack.push_async_callback(member.source.close)

    # --- routing --------------------------------------------------------------------------------------------------

    async def route(self, name: str) -> Route:
        """Return the route of calls to the model of that name; waits for listings only the first time.

        Raises PromptRefused for a name that is ambiguous or that no upstream has.
        """
        if (route := self._known_route(name)) is not None:
            return route
        await asyncio.gather(*(member.source.settle() for member in self.members if not member.models))
        return self._by_listing(self._meant(name))

    def _meant(self, name: str) -> str:
        wanted = name.strip() or self._default
        return self._aliases.target(wanted) or wanted if wanted else ""

    def _known_route(self, name: str) -> Route | None:
        """Return the route, None if it depends on a listing that has not arrived yet. Raises PromptRefused."""
        wanted = self._meant(name)
        first = self.members[0]
        if not self._named:
            return Route(first, wanted)
        if not wanted:
            return Route(first, first.models[0] if first.models else "")
        prefix, slash, rest = wanted.partition("/")
        if slash and (member := self._named.get(prefix)) is not None:
            return Route(member, self._allowed(member, rest))
        if not all(member.models or member.source.settled for member in self.members):
            return None
        return self._by_listing(wanted)

    @staticmethod
    def _allowed(member: Member, model: str) -> str:
        if not model:
            return member.models[0] if member.models else ""
        if member.models and model not in member.models:
            has = _join_names(f"{member.name}/{one}" for one in member.models)
            raise PromptRefused(f"`models` of the upstream `{member.name}` does not have `{model}`; it has {has}.")
        return model

    def _by_listing(self, wanted: str) -> Route:
        """Return the route to the one upstream that has the name, else to the unnamed one. Raises PromptRefused."""
        first = self.members[0]
        if (route := self._listed(wanted)) is not None:
            return route
        if not first.name:
            return Route(first, wanted)
        has = _join_names(member.qualified(model) for member in self.members for model in member.names())
        advice = f"Use one of {has}." if has else "No models are listed."
        raise PromptRefused(f"No upstream has the model `{wanted}`. {advice}")

    def _listed(self, wanted: str) -> Route | None:
        """Return the route to the one upstream that has the name, None if none has. Raises PromptRefused if several
        have.

        If the unnamed upstream has no listing, another is chosen only if its configured `models` have the name: no
        request goes to another host because this one is down.
        """
        first = self.members[0]
        having = [member for member in self.members if wanted in member.names()]
        if not first.name and (first in having or not first.source.names()):
            having = [member for member in having if member is first or (member.models and first not in having)]
        if len(having) > 1:
            candidates = _join_names(member.qualified(wanted) for member in having)
            raise PromptRefused(f"Several upstreams have the model `{wanted}`: name one of {candidates}.")
        return Route(having[0], wanted) if having else None

    def _known(self, name: str) -> Route | None:
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
        return route.member.speaker.stream(call if route.model == call.model else replace(call, model=route.model))

    async def _stream_later(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        route = await self.route(call.model)
        stream = route.member.speaker.stream(replace(call, model=route.model))
        async with aclosing(stream):
            async for chunk in stream:
                yield chunk

    def context_limit(self, model: str) -> int | None:
        """Return the model's context length in tokens, None if it is unknown."""
        route = self._known(model)
        return None if route is None else route.member.speaker.context_limit(route.model)

    async def fit(self, model: str, prompt: Prompt, *, answer: int | None) -> Prompt:
        """Return the prompt shortened to the model's context, with room for an answer of up to `answer` tokens."""
        route = self._known_route(model) or await self.route(model)
        return await route.member.speaker.fit(route.model, prompt, answer=answer)

    async def calls_natively(self, model: str) -> bool:
        """Whether the model's server makes tool calls itself; may ask the server the first time. Raises RunError."""
        route = self._known_route(model) or await self.route(model)
        return await route.member.speaker.calls_natively(route.model)

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context length, in tokens, that an upstream stated."""
        if (route := self._known(model)) is not None:
            route.member.speaker.learn_limit(route.model, limit)

    def tokens_per_char(self, model: str) -> float:
        """Return the estimate for this model, which every answer's usage corrects."""
        route = self._known(model)
        member, known = (self.members[0], "") if route is None else (route.member, route.model)
        return member.speaker.tokens_per_char(known)

    def learn(self, model: str, *, chars: int, prompt_tokens: int) -> None:
        """Correct the estimate with the token count of a prompt of `chars` characters."""
        if (route := self._known(model)) is not None:
            route.member.speaker.learn(route.model, chars=chars, prompt_tokens=prompt_tokens)

    # --- requests of clients --------------------------------------------------------------------------------------

    async def models(self) -> list[ModelEntry]:
        """Return the entries of all upstreams, each with its shortest unambiguous id.

        Raises Problem if no upstream could be listed.
        """
        listings = await asyncio.gather(*map(_listing, self.members))
        entries = [entries for entries in listings if not isinstance(entries, Problem)]
        if not entries:
            raise next(problem for problem in listings if isinstance(problem, Problem))
        listed = [list(of_member) if not isinstance(of_member, Problem) else [] for of_member in listings]
        having: dict[str, int] = {}
        for entry in (entry for of_member in listed for entry in of_member):
            having[entry["id"]] = having.get(entry["id"], 0) + 1
        return [
            {**entry, "id": member.qualified(entry["id"]) if having[entry["id"]] > 1 else entry["id"]}
            for member, of_member in zip(self.members, listed, strict=True)
            for entry in of_member
        ]

    async def check(self) -> str | None:
        """Return None if every upstream answers, else which ones do not, and why."""
        reasons = await asyncio.gather(*(member.source.check() for member in self.members))
        if not self._named:
            return reasons[0]
        names = (f"`{member.name}`" if member.name else "the unnamed one" for member in self.members)
        return " ".join(f"{name}: {why}" for name, why in zip(names, reasons, strict=True) if why) or None

    async def pass_through(self, body: Body, path: str = CHAT) -> Passage:
        """Send a client's own request to the upstream of its model. Raises Problem."""
        model = model_of(body)
        try:
            route = await (self.route(model) if path in GENERATING else self._named_route(model))
        except PromptRefused as error:
            raise InvalidRequest(error.message, param="model", code="model_not_found") from error
        except RunError as error:
            raise UpstreamProblem(error.message, http_status=502) from error
        return await route.member.source.pass_through(with_model(body, route.model), path)

    async def _named_route(self, name: str) -> Route:
        """Return the route of a request that does not generate text.

        The default model and `*` of MODEL_ALIASES do not apply, because they are for models that generate text.
        """
        wanted = self.alias(name)
        if not wanted or not self._named:
            return Route(self.members[0], wanted)
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
        if slash and rest and (member := self._named.get(prefix)) is not None:
            return Route(member, self._allowed(member, rest))
        await asyncio.gather(*(member.source.settle() for member in self.members if not member.models))
        return self._listed(wanted) if wanted else None


async def _listing(member: Member) -> list[ModelEntry] | Problem:
    """Return an upstream's entries, or why it could not be listed.

    Models that `threadhold.toml` names need no request. The entries of named upstreams have its name as the owner.
    """
    if member.models:
        return [_owned(member, {"id": model, "object": "model", "created": 0}) for model in member.models]
    try:
        return [_owned(member, entry) for entry in await member.source.models()]
    except Problem as problem:
        if member.name:
            _log.warning("the models of the upstream `%s` could not be listed: %s", member.name, problem.message)
        return problem


def _owned(member: Member, entry: ModelEntry) -> ModelEntry:
    if not member.name:
        return entry
    ours: ModelDetails = {**(entry.get("threadhold") or {}), "model": member.qualified(entry["id"])}
    return {"owned_by": member.name, **entry, "threadhold": ours}


def _join_names(names: Iterable[str]) -> str:
    listed = [f"`{name}`" for name in names]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
