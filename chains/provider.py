"""An upstream with an API of its own, called through LangChain: Anthropic and what else `init_chat_model` supports.

Invariants: keys and addresses come from `threadhold.toml` only, never from the environment; the provider's package is
optional and imported at its first use; a call raises only RunError; leaving a stream closes its connection.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from importlib import import_module
from typing import Any, Final

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import SecretStr

from chains.blocks import until_silent
from chains.calls import Abilities, Modes, concerns_tools
from chains.chat_types import ModelEntry, ModelKeywords, NamedFunction
from chains.completions import open_completion
from chains.context import Prompt
from chains.fitting import Uncounted, fit_prompt
from chains.forwarding import CHAT, Body, not_served
from chains.models import Models
from chains.negotiation import Known, Negotiation
from chains.passage import Passage
from chains.prompts import DEFAULT_PROMPTS, Prompts
from chains.provider_chunks import ChunkPlainer, explain_foreign
from chains.recent import Learned
from chains.refusals import Refusal, refusal_of
from chains.reply_call import ReplyCall
from chains.retries import Retries
from chains.tokens import Calibration
from chains.transport import DEFAULT_LIMITS, CallLimits
from chains.turns import OwnTurn, restore_turns
from telemetry.context import acting_owner
from telemetry.metrics import Counts
from telemetry.shares import Shares
from wire.errors import ContextOverflow, PromptRefused, RunError, UpstreamFailed, UpstreamProblem
from wire.model_options import ModelOptions

__all__ = ["Provider"]

_ANTHROPIC: Final = "anthropic"
_ANTHROPIC_URL: Final = "https://api.anthropic.com"
_MAX_MODELS: Final = 64
_LISTING_S: Final = 5.0
_CHECKED_S: Final = 1.0
"""Maximum age of a listing that proves that the upstream is available."""


class Provider:
    """One provider, as a `Source` and a `ChatBackend` (see `chains.model_router`). `open` before use, `close` after."""

    def __init__(
        self,
        name: str,
        provider: str,
        *,
        url: str | None = None,
        api_key: str | None = None,
        models: Sequence[str] = (),
        limits: CallLimits = DEFAULT_LIMITS,
        max_reply_tokens: int | None = None,
        prompts: Prompts = DEFAULT_PROMPTS,
    ) -> None:
        """Neither imports the provider's package nor connects. `limits.retry` applies to Anthropic only,
        `limits.connect_s` to no provider. `max_reply_tokens` limits answers that the client does not limit."""
        self.name = name
        self.calibration = Calibration()
        self.outcomes = Counts()
        """Counts of calls by outcome: `ok` or a kind of failure."""
        self._provider = provider.strip().lower().replace("-", "_")
        self._url = url or (_ANTHROPIC_URL if self._is_anthropic else None)
        self._key = api_key
        self._named = tuple(models)
        self._max_reply_tokens = max_reply_tokens
        self._limits = limits
        self._models = Models(self._fetch_models, aliases={}, default=models[0] if models else "")
        self._chats: OrderedDict[str, BaseChatModel] = OrderedDict()
        self._client: Any = None  # an AsyncAnthropic, whose package is optional
        self._making = Shares(1)
        self._refused: Known = Learned()
        self._modes = Modes(Abilities(None, "native"), prompts, self.follow)

    @property
    def _is_anthropic(self) -> bool:
        return self._provider == _ANTHROPIC

    @property
    def host(self) -> str:
        """The provider's name in error messages."""
        return f"`{self.name}` ({self._provider})"

    async def open(self) -> None:
        """Do nothing: the provider's package is imported at the first use, and may not be installed."""

    async def close(self) -> None:
        """Close Anthropic's client; the models of other providers own their connections."""
        await self._models.close()
        self._chats.clear()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # --- Source ---------------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether `names` is complete without waiting."""
        return bool(self._named) or self._models.settled

    async def settle(self) -> None:
        """Wait, once and for a limited time, for the first listing."""
        await self._models.settle()

    def names(self) -> list[str]:
        """Return the model ids that `threadhold.toml` names, else those last listed."""
        return list(self._named) or self._models.names()

    async def models(self) -> list[ModelEntry]:
        """Return the entries of `/models`. Raises UpstreamProblem."""
        try:
            return await self._models.listing()
        except RunError as error:
            raise UpstreamProblem(error.message, http_status=502) from error

    async def check(self) -> str | None:
        """Return None if Anthropic answers, or the model of another provider can be made; else the reason."""
        try:
            if self._is_anthropic:
                await self._models.listing(max_age_s=_CHECKED_S)
            else:
                await self._chat(self._named[0] if self._named else "any")
        except PromptRefused:
            return None
        except RunError as error:
            return error.message
        return None

    async def pass_through(self, body: Body, path: str = CHAT) -> Passage:
        """Answer a `/chat/completions` body in OpenAI's shape. Raises Problem, NotFound for any other path."""
        if path != CHAT or not isinstance(body, dict):
            raise not_served(path, self.host)
        return await open_completion(self.stream, {**body, "model": body.get("model") or await self._default()})

    async def _default(self) -> str:
        try:
            return await self._models.resolve("")
        except RunError as error:
            raise UpstreamProblem(error.message, http_status=502) from error

    # --- ChatBackend ----------------------------------------------------------------------------------------------

    def context_limit(self, model: str) -> int | None:
        """Return the context length that a refusal stated, else the listed one, else the one in LangChain's profile."""
        limit = self._models.learned_limit(model) or self._models.context_limit(model)
        chat = self._chats.get(model)
        known: int | None = (getattr(chat, "profile", None) or {}).get("max_input_tokens")
        return limit if limit is not None else known

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context length, in tokens, that a refusal stated."""
        self._models.learn_limit(model, limit)

    def tokens_per_char(self, model: str) -> float:
        """Return the estimate for this model, which every answer's usage corrects."""
        return self.calibration.ratio(model)

    def learn(self, model: str, *, chars: int, prompt_tokens: int) -> None:
        """Correct the estimate with the token count of a prompt of `chars` characters."""
        self.calibration.learn(model, chars=chars, tokens=prompt_tokens)

    async def calls_natively(self, model: str) -> bool:
        """Whether the model's server makes tool calls itself. Raises RunError."""
        return await self._modes.are_native(model)

    async def fit(self, model: str, prompt: Prompt, *, answer: int | None) -> Prompt:
        """Return the prompt shortened to the model's context, with room for an answer of up to `answer` tokens."""
        known = model or await self._models.resolve("")
        await self._chat(known)  # LangChain's model knows its context length; counting tokens would cost a request
        ratio = self.tokens_per_char(model)
        return await fit_prompt(prompt, known, Uncounted(self.context_limit), ratio=ratio, answer=answer)

    def stream(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Yield the answer's chunks as they arrive; the last has the finish reason and usage. Raises RunError."""
        return self._modes.stream(call) if concerns_tools(call) else self._modes.ask(call)

    async def follow(self, call: ReplyCall, config: RunnableConfig | None = None) -> AsyncGenerator[AIMessageChunk]:
        """Yield the answer of one request, with a LangChain configuration whose callbacks follow it.

        Until the first chunk, a call that is refused because of an option is sent again without the option, and
        Anthropic's calls are retried. The libraries of other providers retry by themselves.
        """
        negotiation = Negotiation(self._refused, call.model)
        retries = Retries(self._limits.retry)
        has_chunks = False
        while True:
            try:
                async with aclosing(self._follow(call, config, negotiation)) as chunks:
                    async for chunk in chunks:
                        has_chunks = True
                        yield chunk
                negotiation.settle()
                return
            except RunError as error:
                refusal = refusal_of(error)
                if not has_chunks:
                    if refusal is not None and await negotiation.drop_refused(refusal):
                        continue
                    if self._is_anthropic and await _wait_to_retry(retries, error, refusal):
                        continue
                if isinstance(error, ContextOverflow) and refusal is not None:
                    error.limit = (await negotiation.trusted(refusal)).room
                raise

    async def _follow(
        self, call: ReplyCall, config: RunnableConfig | None, negotiation: Negotiation
    ) -> AsyncGenerator[AIMessageChunk]:
        model = call.model
        try:
            model = model or await self._models.resolve("")
            source = f"{self._provider} {self._url}"
            turn = OwnTurn(source, model) if call.tools else None
            plainer = ChunkPlainer(self.host, [tool["function"]["name"] for tool in call.tools], turn)
            bound = self._bound(await self._chat(model), call, negotiation)
            # LangChain declares its generators as iterators.
            stream: Any = bound.astream(restore_turns(call.messages, source, model), config)
            async with aclosing(stream), aclosing(until_silent(stream, idle_s=self._limits.idle_s)) as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, AIMessageChunk) and (plain := plainer.plain(chunk)) is not None:
                        yield plain
        except RunError as error:
            self.outcomes[(error.kind,)] += 1
            raise
        except Exception as error:
            # Foreign code: each provider's library raises its own errors, which become RunErrors here.
            explained = self._explained(error, model)
            self.outcomes[(explained.kind,)] += 1
            raise explained from error
        if self._is_anthropic and plainer.finish is None:
            self.outcomes["broke_off",] += 1
            raise UpstreamFailed(f"{self.host}: the stream ended early, without a stop reason.", kind="broke_off")
        self.outcomes["ok",] += 1
        yield plainer.end()

    def _explained(self, error: Exception, model: str) -> RunError:
        key = f"`api_key` of [upstreams.{self.name}]"
        explained = explain_foreign(error, host=self.host, model=model, key=key)
        if self._key and len(self._key) > 3:
            explained.message = explained.message.replace(self._key, "***")
            explained.quote = explained.quote.replace(self._key, "***")
            explained.args = (explained.message,)
        return explained

    def _bound(
        self, chat: BaseChatModel, call: ReplyCall, negotiation: Negotiation
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model bound to this call's options, as far as the provider supports them."""
        options = {**self._options(chat, call.options), **_format(chat, call)}
        offers = bool(call.tools) and (call.tool_choice != "none" or self._is_anthropic)
        if offers:
            options["tool_choice"] = self._choice(call.tool_choice)
            if call.tool_choice != "none" and self._is_anthropic:
                options["parallel_tool_calls"] = call.parallel_tool_calls
        written = [[message.content for message in call.messages], call.tools]
        options = negotiation.applied({name: value for name, value in options.items() if value is not None}, written)
        if (limit := call.max_tokens or self._max_reply_tokens) is not None:
            options = {**options, "max_tokens": limit}
        tools: Sequence[Any] = call.tools  # LangChain declares plain dicts
        return chat.bind_tools(tools, **options) if offers else chat.bind(**options)

    def _options(self, chat: BaseChatModel, given: ModelOptions) -> ModelKeywords:
        """Return the options as the provider's model takes them."""
        options: ModelKeywords = given.named()
        effort = options.pop("reasoning_effort", "none")
        if effort != "none" and "reasoning_effort" in type(chat).model_fields:
            options["reasoning_effort"] = "low" if effort == "minimal" else effort
        if self._is_anthropic and given.temperature is not None:
            options["temperature"] = min(given.temperature, 1.0)  # the maximum
            options.pop("top_p", None)  # newer models refuse both together
        return options

    def _choice(self, choice: str | NamedFunction | None) -> str | dict[str, str] | None:
        if isinstance(choice, dict):
            return choice.get("function", {}).get("name")
        if choice == "none":
            return {"type": "none"}  # Anthropic's form; the tools stay, as the history may contain calls
        return "any" if choice == "required" else None

    # --- the library ----------------------------------------------------------------------------------------------

    async def _chat(self, model: str) -> BaseChatModel:
        """Return the LangChain model of that name, made once. Raises RunError if it cannot be made."""
        if (known := self._chats.get(model)) is not None:
            return known
        async with self._making.share(acting_owner()):
            chat = self._chats.get(model)
            if chat is None:
                chat = self._chats[model] = await asyncio.to_thread(self._make, model)
            if len(self._chats) > _MAX_MODELS:
                self._chats.popitem(last=False)
        return chat

    def _make(self, model: str) -> BaseChatModel:
        if self._is_anthropic and not self._key:
            raise UpstreamFailed(
                f"{self.host} has no key. Set `api_key` in [upstreams.{self.name}] of threadhold.toml."
            )
        given: ModelKeywords = {"api_key": self._key, "base_url": self._url}
        if self._is_anthropic:
            given |= {"max_retries": 0, "timeout": self._limits.idle_s, "stream_usage": True}
        given = {name: value for name, value in given.items() if value is not None}
        try:
            init = import_module("langchain.chat_models").init_chat_model
            chat: BaseChatModel = init(model, model_provider=self._provider, **given)
            if self._is_anthropic:
                self._connect(chat)
        except ImportError as error:
            raise UpstreamFailed(self._missing(error)) from error
        except Exception as error:
            # Foreign code: a provider's constructor raises its own errors (no key, an unknown name) with the reason.
            raise UpstreamFailed(f"{self.host} cannot be set up: {' '.join(str(error).split())[:500]}") from error
        self._check_keys(chat)
        return chat

    def _connect(self, chat: BaseChatModel) -> None:
        """Give Anthropic's model a client that this object owns.

        The model's own client would share a pool between event loops, never be closed, and send the headers in
        ANTHROPIC_CUSTOM_HEADERS.
        """
        if self._client is None:
            anthropic = import_module("anthropic")
            self._client = anthropic.AsyncAnthropic(
                api_key=self._key,
                base_url=self._url,
                timeout=self._limits.idle_s,
                max_retries=0,  # `follow` retries
            )
            self._client._custom_headers = {}  # noqa: SLF001
        chat.__dict__["_async_client"] = self._client

    def _check_keys(self, chat: BaseChatModel) -> None:
        """Refuse a key that the provider's library took from the environment."""
        for name in type(chat).model_fields:
            secret = getattr(chat, name, None)
            if isinstance(secret, SecretStr) and secret.get_secret_value() not in ("", self._key):
                raise UpstreamFailed(
                    f"{self.host} would take `{name}` from the environment, but Threadhold takes keys from "
                    f"threadhold.toml only. Set `api_key` in [upstreams.{self.name}]."
                )

    def _missing(self, error: ImportError) -> str:
        cause = error.__cause__
        module = (getattr(cause, "name", None) or getattr(error, "name", None) or "").partition(".")[0]
        package = module.replace("_", "-") or f"langchain-{self._provider.replace('_', '-')}"
        return f"{self.host} needs the package {package}: .venv/bin/python -m pip install {package}, then start again."

    async def _fetch_models(self) -> list[ModelEntry]:
        if not self._is_anthropic:
            if self._named:
                return [{"id": model, "object": "model", "created": 0} for model in self._named]
            raise UpstreamFailed(f"{self.host} lists no models. Name them in `models` of [upstreams.{self.name}].")
        await self._chat(self._named[0] if self._named else "claude")
        try:
            async with asyncio.timeout(_LISTING_S):
                page = await self._client.models.list(limit=1000)
        except RunError:
            raise
        except Exception as error:  # foreign code, as in `_follow`
            raise self._explained(error, "") from error
        entries: list[ModelEntry] = []
        for one in page.data:
            entry: ModelEntry = {"id": one.id, "object": "model", "created": 0}
            with suppress(AttributeError, ValueError):
                entry["created"] = int(one.created_at.timestamp())
            if type(limit := getattr(one, "max_input_tokens", None)) is int:
                entry["max_context_length"] = limit
            entries.append(entry)
        return entries


async def _wait_to_retry(retries: Retries, error: RunError, refusal: Refusal | None) -> bool:
    """Wait to retry a call that failed before its first chunk; return False if it is not retried."""
    transient = refusal.retryable if refusal is not None else error.kind in ("unreachable", "broke_off")
    headers = getattr(getattr(error.__cause__, "response", None), "headers", None)
    return await retries.wait_to_retry(transient=transient, headers=headers)


def _format(chat: BaseChatModel, call: ReplyCall) -> ModelKeywords:
    """Return `response_format` if it is a schema and LangChain's profile says that the model supports one."""
    wanted = call.response_format
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return {}
    profile = getattr(chat, "profile", None) or {}
    return {"response_format": wanted} if profile.get("structured_output") else {}
