"""The built-in engine: an upstream that is started on demand from the GGUF files on this machine.

Invariants: nothing is loaded before a request needs it. llama.cpp gets only requests within limits (`engine_requests`),
never more at once than it has slots; owners share them fairly (`slots`). If an engine ends, an answer that has not been
shown yet is retried once. An owner whose request ends the engine again is suspended (`suspensions`). Every answer is
streamed: only streams stop llama.cpp when their reader leaves, even while it still reads the prompt.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
from langchain_core.messages import BaseMessage

from chains.blocks import when_closed
from chains.chat_types import ModelEntry
from chains.endpoint import Endpoint
from chains.engine import Engine, EngineConfig, EngineEnded
from chains.engine_prompts import require_fitting, require_text
from chains.engine_requests import answer_count, fit_request, single_requests, template_tools
from chains.engines import Engines
from chains.forwarding import CHAT, GENERATING, Body, model_of, not_served, require_prompt
from chains.gguf import Gguf
from chains.installed_models import installed_models, join_names
from chains.negotiation import Negotiation
from chains.non_streaming import complete_response, complete_responses
from chains.relay import relay
from chains.retries import Retries
from chains.slots import Slot, Slots
from chains.suspensions import OwnerSuspended, Suspensions
from chains.transport import DEFAULT_LIMITS, CallLimits
from chains.upstream import Upstream
from chains.upstream_response import UpstreamResponse, with_openai_error
from fairness.fair_limits import DISK
from telemetry.context import current_owner
from telemetry.metrics import Counts
from wire.errors import (
    InvalidRequest,
    PromptRefused,
    RunError,
    TooManyRequests,
    Unavailable,
    UpstreamFailed,
    UpstreamProblem,
)

__all__ = ["Builtin"]

_PLACEHOLDER: Final = Endpoint(base="http://127.0.0.1:9/v1", query="", host="the built-in engine")
_FORMED: Final = {"repeat_penalty": 1.0}
"""For answers with a form: a repeat penalty also applies to quotation marks, and causes strings that never end."""
_EXCLUSIVE_WAIT_S: Final = 5.0
"""How long a retried request waits for exclusive use of the engine."""

_log = logging.getLogger("threadhold.engine")

T = TypeVar("T")


class Builtin(Upstream):
    """The built-in engine in the role of an upstream. Call `open` before use and `close` after."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        config: EngineConfig | None = None,
        aliases: Mapping[str, str] | None = None,
        default_model: str = "",
        limits: CallLimits = DEFAULT_LIMITS,
        is_shared: bool = False,
    ) -> None:
        """Loads nothing. `path` is a GGUF file or a folder of them, by default the demo model. `limits.idle_s` limits
        the wait for a model, too. `is_shared` means that there are several owners, none of whom gets all slots."""
        super().__init__(None, aliases=aliases, default_model=default_model, limits=limits)
        self.endpoint = _PLACEHOLDER
        self._path = path
        self._config = config or EngineConfig()
        self._files: dict[str, Gguf] = {}
        self._contexts: dict[str, int] = {}
        """Context lengths, in tokens, of the models that were loaded."""
        self._engines = Engines(
            self._config, self.limits, find=self._find, outcomes=self.outcomes, loaded=self._contexts.__setitem__
        )
        self._is_shared = is_shared
        self._per_owner = max(1, self._config.parallel - is_shared)
        self._slots: dict[str, Slots] = {}
        self._ending: set[asyncio.Task[bool]] = set()
        self._suspensions = Suspensions(is_shared=is_shared)
        self._answering: WeakKeyDictionary[Negotiation, tuple[Engine, Slot, bool]] = WeakKeyDictionary()
        """The engine that has started to answer a run's request, its slot, and whether this was a retry."""

    # --- the interface of an upstream -----------------------------------------------------------------------------

    async def open(self) -> None:
        """Find the installed models and log them. Having none is no error."""
        try:
            names = list(await self._refresh())
        except UpstreamFailed as error:
            _log.warning("no model: %s", error.message)
            return
        if not any(model.is_demo for model in self._files.values()):
            _log.info("models: %s (loaded on demand)", join_names(names))

    async def close(self) -> None:
        """Cancel loads in progress, and end every engine."""
        ending = list(self._ending)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._engines.close()
        await super().close()

    async def resolve(self, model: str) -> str:
        """Return the name of an installed model. If there is only one, every name means it.

        Raises UpstreamFailed if there is none, PromptRefused if none of several has the name.
        """
        return (await self._find(await self._models.resolve(model))).name

    async def models(self) -> list[ModelEntry]:
        """Return an entry for each model file; empty if there is none. Loads nothing."""
        try:
            return await self._fetch_models()
        except UpstreamFailed:
            return []

    @property
    def engine_ends(self) -> Counts:
        """How often an engine's process crashed ("crashed"), or was ended because it hung ("stuck")."""
        return self._engines.ends

    def names(self) -> list[str]:
        """Return the models that the last search found."""
        return list(self._files)

    def context_limit(self, model: str) -> int | None:
        """Return a model's context in tokens, by any name that means it; None until it was loaded."""
        return self._contexts.get(self._known_name(model))

    def reply_limit(self, model: str) -> int | None:
        """Return how many tokens a model's answer can have if its request sets no limit."""
        found = self._files.get(self._known_name(model))
        return self._config.reply_limit(found) if found is not None else self._config.max_reply_tokens

    def learn_limit(self, model: str, limit: int) -> None:
        """Do nothing: the engine itself reports its context."""

    async def ask_limit(self, model: str) -> int | None:
        """Return a model's context in tokens, loading the model if necessary. Raises RunError."""
        await self.load_upstream(model)
        return self.context_limit(await self.resolve(model))

    async def count_tokens(
        self, model: str, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, object]]
    ) -> int | None:
        """Return the number of tokens of a prompt. Raises RunError if the model cannot be loaded."""
        name, upstream = await self.resolve(model), await self.load_upstream(model)
        await upstream.ask_limit(name)
        return await upstream.count_tokens(
            name, messages, await template_tools(tools, context=self._config.context_size)
        )

    async def check(self) -> str | None:
        """Return None if a model is loaded or can be, else the obstacle, or the load in progress."""
        try:
            await self._refresh()
        except UpstreamFailed as error:
            return error.message
        for name, seconds in self._engines.loading().items():
            return f"loading `{name}` for {seconds:.0f} s"
        return next(iter(self._engines.failed.values()), None)

    async def answer(
        self, payload: Mapping[str, object], negotiation: Negotiation, retries: Retries
    ) -> aiohttp.ClientResponse:
        """Load the model if necessary, and post a completion; return the 2xx answer unread. Raises RunError.

        A request whose engine ended is retried once, exclusively: if it ends the engine again, no other answer is lost.
        """
        name = await self.resolve(str(payload.get("model") or ""))
        before = self._answering.pop(negotiation, None)
        ended = None
        if before is not None and await before[0].has_ended():
            ended = before[0].end_error()
            ended.was_sole = before[1].is_sole
            if self._gives_up(ended, payload, again=before[2]):
                raise ended
        try:
            fitted = await fit_request(payload, CHAT, context=self._config.context_size, lenient=True)
            require_fitting(fitted, self._config.context_size)
        except InvalidRequest as error:
            raise PromptRefused(error.message) from error
        except Unavailable as error:
            raise UpstreamFailed(error.message) from error
        if ended is not None:
            return await self._answer(name, fitted, negotiation, retries, exclusive=True)
        return await self._ask_twice(
            lambda exclusive: self._answer(name, fitted, negotiation, retries, exclusive=exclusive), fitted
        )

    async def _answer(
        self, name: str, fitted: dict[str, object], negotiation: Negotiation, retries: Retries, *, exclusive: bool
    ) -> aiohttp.ClientResponse:
        async with self._engine_slot(name, exclusive=exclusive) as (engine, slot):
            formed = _FORMED if fitted.get("response_format") else {}
            request, _ = await self._read_ahead(engine, slot, {**engine.complete_request(fitted), **formed}, CHAT)
            response = await engine.upstream.answer(request, negotiation, retries)
            slot.reduce_to(1)  # its first token has arrived: it is no longer expected to end the engine
            engine.track_response(response)
        self._answering[negotiation] = engine, slot, exclusive
        when_closed(response, lambda: self._release(slot, engine, broke=response.content.exception() is not None))
        return response

    async def pass_through(self, body: Body, path: str = CHAT) -> UpstreamResponse:
        """Answer a client's `/chat/completions` or `/completions` body.

        Raises InvalidRequest, UpstreamProblem, NotFound for any other path.
        """
        if path not in GENERATING or not isinstance(body, dict):
            raise not_served(path, "The built-in engine")
        model = model_of(body)
        require_prompt(body, path)
        fitted = await fit_request(body, path, context=self._config.context_size)
        require_text(fitted)
        require_fitting(fitted, self._config.context_size)
        singles = single_requests(fitted)
        if len(singles) > self._per_owner and fitted.get("stream"):
            raise InvalidRequest(
                f"Streams of the built-in engine have at most {self._per_owner} answers at once, and the request asks "
                f"for {len(singles)} (`n` times its prompts). Leave out `stream`, or send several requests.",
                param="n" if answer_count(fitted) > 1 else "prompt",
            )
        try:
            name = await self.resolve(model)
            if len(singles) == 1 or fitted.get("stream"):
                return await self._pass_through(name, fitted, path, count=len(singles))
            requests = (self._pass_through(name, single, path) for single in singles)
            return await complete_responses(requests, per_prompt=answer_count(fitted))
        except PromptRefused as error:
            raise InvalidRequest(error.message, param="model", code="model_not_found") from error
        except OwnerSuspended as error:
            raise TooManyRequests(error.message, headers={"Retry-After": str(error.seconds)}) from error
        except RunError as error:
            raise UpstreamProblem(error.message, http_status=503) from error

    async def _ask_twice(self, ask: Callable[[bool], Awaitable[T]], body: Mapping[str, object]) -> T:
        """Return the result of `ask`. If the engine ends before any of the answer was shown, retry once,
        exclusively."""
        try:
            return await ask(False)
        except EngineEnded as ended:
            if self._gives_up(ended, body, again=False):
                raise
        try:
            return await ask(True)
        except EngineEnded as ended:
            self._gives_up(ended, body, again=True)
            raise

    def _gives_up(self, ended: EngineEnded, body: Mapping[str, object], *, again: bool) -> bool:
        """Return whether a request is not retried after its engine ended: after a hang, a retry or a recent crash.

        In these cases, the owner is suspended if the engine served no other owner, or if the owner already caused a
        recent crash.
        """
        owner, is_hang = current_owner(), ended.may_recur(body)
        has_recent_crash = self._suspensions.has_recent_crash(owner)
        if has_recent_crash or (ended.was_sole and (again or is_hang)):
            self._suspensions.count(owner)
        return again or is_hang or has_recent_crash

    async def _pass_through(
        self, name: str, fitted: dict[str, object], path: str, *, count: int = 1
    ) -> UpstreamResponse:
        return await self._ask_twice(
            lambda exclusive: self._pass_once(name, fitted, path, count, exclusive=exclusive), fitted
        )

    async def _pass_once(
        self, name: str, fitted: dict[str, object], path: str, count: int, *, exclusive: bool
    ) -> UpstreamResponse:
        async with self._engine_slot(name, count, exclusive=exclusive) as (engine, slot):
            request, ahead = await self._read_ahead(engine, slot, engine.complete_request(fitted), path)
            if not fitted.get("stream"):
                response = await complete_response(engine.upstream, request, path, lambda: slot.reduce_to(count))
            else:
                response = await engine.upstream.pass_through(request, path)
                slot.reduce_to(count)
                engine.track_response(response)
        response.when_closed(lambda: self._release(slot, engine, broke=response.broke))
        slots = self._slots[name]
        return relay(with_openai_error(response), lambda: len(slots) > 0, ahead=ahead)

    async def _read_ahead(
        self, engine: Engine, slot: Slot, body: dict[str, object], path: str
    ) -> tuple[dict[str, object], int]:
        """Read long prompts in slices if owners share the engine. Return the request, which uses what was read, and how
        many tokens were read."""
        if not self._is_shared:
            return body, 0
        count = await engine.read_ahead(body, path, slot.has_other_owners)
        return {**body, "cache_prompt": True}, count

    @asynccontextmanager
    async def _engine_slot(self, name: str, count: int = 1, *, exclusive: bool) -> AsyncIterator[tuple[Engine, Slot]]:
        """Wait for a request's slots and its engine. If the block fails, its slots are released. Raises RunError."""
        self._suspensions.check(current_owner())
        slot = await self._take_slots(name, count, exclusive=exclusive)
        try:
            async with self._engines.asking(name) as engine:
                self._suspensions.check(current_owner())  # another request of this owner can have ended it meanwhile
                yield engine, slot
        except BaseException as error:
            if isinstance(error, EngineEnded):
                error.was_sole = slot.is_sole
            slot.release()
            raise

    def _release(self, slot: Slot, engine: Engine, *, broke: bool) -> None:
        """Release the slot of a closed answer. If the answer broke off, wait until an end of its engine would be known:
        otherwise the next request would reach a process that is about to exit, and seem to have ended it."""
        if not broke:
            slot.release()
            return
        task = asyncio.create_task(engine.has_ended(), name="engine exit")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.add_done_callback(lambda _: slot.release())

    async def _take_slots(self, name: str, count: int, *, exclusive: bool) -> Slot:
        """Wait for a request's slots. Raises UpstreamFailed if that takes too long."""
        slots = self._slots.setdefault(name, Slots(self._config.parallel, per_owner=self._per_owner))
        limit_s = self.limits.idle_s
        if exclusive:
            # Only briefly: other requests wait behind it, and it can itself wait for a long answer to end.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EXCLUSIVE_WAIT_S):
                    return await slots.acquire(current_owner(), exclusive=True)
        try:
            async with asyncio.timeout(limit_s):
                return await slots.acquire(current_owner(), count)
        except TimeoutError:
            raise UpstreamFailed(
                f"The built-in engine was busy with other requests for {limit_s:g} s. Try again later.", kind="silent"
            ) from None

    async def load_upstream(self, model: str) -> Upstream:
        """Load a model, by any of its names, and return the plain upstream of its engine. Raises RunError.

        For queries only (`/props`, `/tokenize`): the model can be unloaded meanwhile.
        """
        async with self._engines.asking(await self.resolve(model)) as engine:
            return engine.upstream

    async def props(self, model: str) -> dict[str, object] | None:
        """Return the `/props` of a model, loading it if necessary; None if it cannot be loaded."""
        try:
            async with self._engines.asking(await self.resolve(model)) as engine:
                return engine.props
        except RunError:
            return None

    async def _fetch_models(self) -> list[ModelEntry]:
        models = (await self._refresh()).values()
        return [model.entry(self._engines.state(model.name), self.context_limit(model.name)) for model in models]

    # --- files ----------------------------------------------------------------------------------------------------

    async def _refresh(self) -> dict[str, Gguf]:
        """Find the installed models, by name. Raises UpstreamFailed if there is none, or no engine."""
        self._files = await DISK.run(current_owner(), installed_models, self._path)
        return self._files

    async def _find(self, name: str) -> Gguf:
        files = self._files
        if name not in files:
            files = await self._refresh()
        if name in files:
            return files[name]
        if len(files) == 1:
            return next(iter(files.values()))
        raise PromptRefused(
            f"There is no model `{name}` at MODEL_PATH. There are {join_names(list(files))}: use one of these, or map "
            "the name with MODEL_ALIASES."
        )

    def _known_name(self, model: str) -> str:
        """Return the name that `resolve` would find, as far as it is known without waiting."""
        name = self._models.known_as(model)
        return next(iter(self._files)) if name not in self._files and len(self._files) == 1 else name
