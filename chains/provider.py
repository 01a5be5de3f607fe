"""An upstream with an API of its own, called through LangChain: Anthropic and what else `init_chat_model` supports.

Invariants: a call raises only RunError; leaving a stream closes its connection; what differs between providers is in
`ProviderApi` and its subclasses.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import Runnable, RunnableConfig

from chains.anthropic_api import AnthropicApi
from chains.blocks import until_silent
from chains.calls import Capabilities, Modes, concerns_tools
from chains.chat_types import ModelEntry, ModelKeywords
from chains.completions import open_completion
from chains.context import Prompt
from chains.error_responses import ErrorResponse, error_response_of
from chains.fitting import Uncounted, fit_prompt
from chains.forwarding import CHAT, Body, not_served
from chains.model_facts import ModelFacts
from chains.models import Models
from chains.native_replies import NativeReply, restore_native_replies
from chains.negotiation import Known, Negotiation
from chains.prompts import DEFAULT_PROMPTS, Prompts
from chains.provider_api import ProviderApi
from chains.provider_chunks import ChunkConverter, explain_provider_error
from chains.reply_call import ReplyCall
from chains.retries import Retries
from chains.tokens import Calibration
from chains.transport import DEFAULT_LIMITS, CallLimits
from chains.upstream_response import UpstreamResponse
from fairness.fair_limits import FairLimit
from telemetry.context import current_owner
from telemetry.metrics import Counts
from wire.errors import ContextOverflow, PromptRefused, RunError, UpstreamFailed, UpstreamProblem

__all__ = ["Provider"]

_APIS: Final[dict[str, type[ProviderApi]]] = {"anthropic": AnthropicApi}
"""The providers with a subclass of `ProviderApi`, by LangChain's names."""

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
        """Neither imports the provider's package nor connects. `limits.retry` applies to providers whose library does
        not retry by itself (Anthropic's), `limits.connect_s` to no provider. `max_reply_tokens` limits answers that the
        client does not limit."""
        self.name = name
        self.calibration = Calibration()
        self.outcomes = Counts()
        """Counts of calls by outcome: `ok` or a kind of failure."""
        kind = provider.strip().lower().replace("-", "_")
        self._api = _APIS.get(kind, ProviderApi)(name, kind, url=url, key=api_key, idle_s=limits.idle_s)
        self._named = tuple(models)
        self._max_reply_tokens = max_reply_tokens
        self._limits = limits
        self._models = Models(self._fetch_models, aliases={}, default=models[0] if models else "")
        self._chats: OrderedDict[str, BaseChatModel] = OrderedDict()
        self._making = FairLimit(1)
        self._refused: Known = ModelFacts()
        self._modes = Modes(Capabilities(None, "native"), prompts, self.follow)

    @property
    def host(self) -> str:
        """The provider's name in error messages."""
        return self._api.host

    async def open(self) -> None:
        """Do nothing: the provider's package is imported at the first use, and may not be installed."""

    async def close(self) -> None:
        """Close the provider's client if this object owns it; other models own their connections."""
        await self._models.close()
        self._chats.clear()
        await self._api.close()

    # --- Source ---------------------------------------------------------------------------------------------------

    @property
    def has_listed(self) -> bool:
        """Whether `names` is complete without waiting."""
        return bool(self._named) or self._models.has_listed

    async def wait_for_listing(self) -> None:
        """Wait, once and for a limited time, for the first listing."""
        await self._models.wait_for_listing()

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
        """Return None if the provider lists its models, or if it cannot and a model can be created; else the reason."""
        try:
            if self._api.lists_models:
                await self._models.listing(max_age_s=_CHECKED_S)
            else:
                await self._chat(self._a_model)
        except PromptRefused:
            return None
        except RunError as error:
            return error.message
        return None

    async def pass_through(self, body: Body, path: str = CHAT) -> UpstreamResponse:
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

    def calibrate(self, model: str, *, chars: int, prompt_tokens: int) -> None:
        """Correct the estimate with the token count of a prompt of `chars` characters."""
        self.calibration.update(model, chars=chars, tokens=prompt_tokens)

    async def calls_natively(self, model: str) -> bool:
        """Whether the model's server makes tool calls itself. Raises RunError."""
        return await self._modes.are_native(model)

    async def fit(self, model: str, prompt: Prompt, *, answer: int | None) -> Prompt:
        """Return the prompt shortened to the model's context, with space for an answer of up to `answer` tokens."""
        known = model or await self._models.resolve("")
        await self._chat(known)  # LangChain's model knows its context length; counting tokens would cost a request
        ratio = self.tokens_per_char(model)
        return await fit_prompt(prompt, known, Uncounted(self.context_limit), ratio=ratio, answer=answer)

    def stream(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Yield the answer's chunks as they arrive; the last has the finish reason and usage. Raises RunError."""
        return self._modes.stream(call) if concerns_tools(call) else self._modes.ask(call)

    async def follow(self, call: ReplyCall, config: RunnableConfig | None = None) -> AsyncGenerator[AIMessageChunk]:
        """Yield the answer of one request, with a LangChain configuration whose callbacks follow it.

        Until the first chunk, a call that is refused because of an option is sent again without the option, and a call
        that fails is retried if the provider's library does not retry by itself.
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
                negotiation.record_success()
                return
            except RunError as error:
                error_response = error_response_of(error)
                if not has_chunks:
                    if error_response is not None and await negotiation.drop_refused(error_response):
                        continue
                    if not self._api.retries_itself and await _wait_to_retry(retries, error, error_response):
                        continue
                if isinstance(error, ContextOverflow) and error_response is not None:
                    error.limit = (await negotiation.trusted(error_response)).prompt_limit
                raise

    async def _follow(
        self, call: ReplyCall, config: RunnableConfig | None, negotiation: Negotiation
    ) -> AsyncGenerator[AIMessageChunk]:
        model = call.model
        try:
            model = model or await self._models.resolve("")
            source = f"{self._api.provider} {self._api.url}"
            reply = NativeReply(source, model) if call.tools else None
            converter = ChunkConverter(self.host, [tool["function"]["name"] for tool in call.tools], reply)
            bound = self._bound(await self._chat(model), call, negotiation)
            # LangChain declares its generators as iterators.
            stream: Any = bound.astream(restore_native_replies(call.messages, source, model), config)
            async with aclosing(stream), aclosing(until_silent(stream, idle_s=self._limits.idle_s)) as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, AIMessageChunk) and (plain := converter.convert(chunk)) is not None:
                        yield plain
        except RunError as error:
            self.outcomes[(error.kind,)] += 1
            raise
        except Exception as error:
            # Foreign code: each provider's library raises its own errors, which become RunErrors here.
            explained = self._explained(error, model)
            self.outcomes[(explained.kind,)] += 1
            raise explained from error
        if self._api.reports_finish and converter.finish is None:
            self.outcomes["broke_off",] += 1
            raise UpstreamFailed(f"{self.host}: the stream ended early, without a stop reason.", kind="broke_off")
        self.outcomes["ok",] += 1
        yield converter.end()

    def _explained(self, error: Exception, model: str) -> RunError:
        key = f"`api_key` of {self._api.setting}"
        explained = explain_provider_error(error, host=self.host, model=model, key=key)
        if (secret := self._api.key) and len(secret) > 3:
            explained.message = explained.message.replace(secret, "***")
            explained.quote = explained.quote.replace(secret, "***")
            explained.args = (explained.message,)
        return explained

    def _bound(
        self, chat: BaseChatModel, call: ReplyCall, negotiation: Negotiation
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model bound to this call's options, as far as the provider supports them."""
        calling = self._api.tool_options(call)
        options = {**self._api.options(chat, call.options), **_format(chat, call), **(calling or {})}
        written = [[message.content for message in call.messages], call.tools]
        options = negotiation.applied({name: value for name, value in options.items() if value is not None}, written)
        if (limit := call.max_tokens or self._max_reply_tokens) is not None:
            options = {**options, "max_tokens": limit}
        tools: Sequence[Any] = call.tools  # LangChain declares plain dicts
        return chat.bind(**options) if calling is None else chat.bind_tools(tools, **options)

    # --- the library ----------------------------------------------------------------------------------------------

    async def _chat(self, model: str) -> BaseChatModel:
        """Return the LangChain model of that name, made once. Raises RunError if it cannot be made."""
        if (known := self._chats.get(model)) is not None:
            return known
        async with self._making.slot(current_owner()):
            chat = self._chats.get(model)
            if chat is None:
                chat = self._chats[model] = await asyncio.to_thread(self._api.make, model)
            if len(self._chats) > _MAX_MODELS:
                self._chats.popitem(last=False)
        return chat

    async def _fetch_models(self) -> list[ModelEntry]:
        if self._named and not self._api.lists_models:
            return [{"id": model, "object": "model", "created": 0} for model in self._named]
        if self._api.lists_models:
            await self._chat(self._a_model)
        try:
            async with asyncio.timeout(_LISTING_S):
                return await self._api.list_models()
        except RunError:
            raise
        except Exception as error:  # foreign code, as in `_follow`
            raise self._explained(error, "") from error

    @property
    def _a_model(self) -> str:
        """A model's name with which a LangChain model can be created."""
        return self._named[0] if self._named else self._api.sample_model


async def _wait_to_retry(retries: Retries, error: RunError, error_response: ErrorResponse | None) -> bool:
    """Wait to retry a call that failed before its first chunk; return False if it is not retried."""
    transient = error_response.retryable if error_response is not None else error.kind in ("unreachable", "broke_off")
    headers = getattr(getattr(error.__cause__, "response", None), "headers", None)
    return await retries.wait_to_retry(transient=transient, headers=headers)


def _format(chat: BaseChatModel, call: ReplyCall) -> ModelKeywords:
    """Return `response_format` if it is a schema and LangChain's profile says that the model supports one."""
    wanted = call.response_format
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return {}
    profile = getattr(chat, "profile", None) or {}
    return {"response_format": wanted} if profile.get("structured_output") else {}
