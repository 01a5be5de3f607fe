"""The plain chat chain: `{system, human}` in, text out, as prompt | model | parser.

Invariants: parameters that the caller does not set are not sent. Leaving a stream closes the upstream's connection
immediately. The chain also works without a server: with an address, every call opens and closes its own connection.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Final

from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableLambda
from langchain_core.runnables.utils import ConfigurableFieldSpec
from pydantic import BaseModel, ConfigDict

from chains.backpressure import BackpressureRunnable, find_reader, grow_pieces
from chains.bridge import BridgedRunnable
from chains.call_chunks import ChunkSum
from chains.calls.role_negotiation import RoleNegotiator, RoleSupport
from chains.chat_types import ModelKeywords
from chains.disconnect import on_disconnect
from chains.fast_client import EXCHANGE, Exchange
from chains.model_facts import ModelFacts
from chains.model_router import ModelRouter
from chains.ports import ModelSource
from chains.prompts import DEFAULT_PROMPTS
from chains.provider import Provider
from chains.reply import RECLASSIFIED, chat_model, request_fields
from chains.reply_call import Ask, ReplyCall
from chains.upstream import Upstream
from wire.errors import RunError
from wire.model_options import ModelOptions
from wire.validation import parse

__all__ = ["CALL_SLOT", "ChatInput", "build_chat_chain"]

CALL_SLOT: Final = "__call_slot"
"""Key of `config["configurable"]` with a factory of context managers: each model call enters one to wait for a slot.
Only the server sets it."""

_HELD: Final = "__exchange"  # LangChain does not show names that start with these underscores

_FIELDS: Final = [
    ConfigurableFieldSpec(id="model", annotation=str, name="Model", default="", description="Empty: the default model"),
    # Playgrounds send the values in their forms, so the defaults must be values that are not passed on.
    ConfigurableFieldSpec(
        id="temperature", annotation=float, name="Temperature", default=-1.0, description="-1: the engine's own"
    ),
    ConfigurableFieldSpec(id="max_tokens", annotation=int, name="Max tokens", default=-1, description="-1: no limit"),
]


class ChatInput(BaseModel):
    """The chain's input. Other keys are refused, because a misspelt one would have no effect."""

    model_config = ConfigDict(extra="forbid")

    system: str = ""
    human: str


def build_chat_chain(
    upstream: Upstream | ModelRouter | str, *, returns_errors: bool = False
) -> Runnable[dict[str, object], str]:
    """Return the chain; it reads `model`, `temperature` and `max_tokens` from `config["configurable"]`.

    `upstream` is an open Upstream, a ModelRouter, or an address. With `returns_errors` a failing model call ends
    the text with the reason instead of raising RunError. An input that is not a ChatInput raises InvalidRequest.
    """
    prompt = ChatPromptTemplate.from_messages([("system", "{system}"), ("human", "{human}")])
    filled = prompt.with_config(run_name="prompt")
    model = _ChatModel(upstream, returns_errors=returns_errors)
    chain = RunnableLambda(_complete, name="defaults") | filled | model | StrOutputParser()
    input_type: object = ChatInput
    return _Chat(bound=chain, config={"run_name": "chat"}, custom_input_type=input_type, custom_output_type=str)


def _complete(values: dict[str, object]) -> dict[str, object]:
    return parse(ChatInput, values).model_dump()


class _Chat(
    BackpressureRunnable[dict[str, object], str],
    BridgedRunnable[dict[str, object], str],
    RunnableBinding[dict[str, object], str],
):
    """The chain; it notices when its reader leaves."""

    async def astream(
        self, input: dict[str, object], config: RunnableConfig | None = None, **kwargs: object
    ) -> AsyncIterator[str]:
        """Yield the text as it arrives."""
        exchange = Exchange()
        held: RunnableConfig = {**(config or {})}
        held["configurable"] = {**held.get("configurable", {}), _HELD: exchange}
        texts = super().astream(input, held, **kwargs)
        if (reader := find_reader(config)) is not None and reader.logs:
            texts = grow_pieces(texts)
        with on_disconnect(exchange.close):
            async for text in texts:
                yield text


class _ChatModel(BridgedRunnable[PromptValue, BaseMessage]):
    """ChatOpenAI over the fast client, with the parameters of the configuration."""

    def __init__(self, upstream: Upstream | ModelRouter | str, *, returns_errors: bool) -> None:
        self._upstream = upstream
        self._returns_errors = returns_errors
        self._role_support: ModelFacts[RoleSupport] = ModelFacts()

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The fields of `config["configurable"]` that have effect."""
        return _FIELDS

    async def ainvoke(self, input: PromptValue, config: RunnableConfig | None = None, **kwargs: object) -> BaseMessage:
        """Make a request, and return the whole answer."""
        whole = ChunkSum()
        async for chunk in self.astream(input, config, **kwargs):
            if isinstance(chunk, AIMessageChunk):
                if chunk.additional_kwargs.get(RECLASSIFIED):
                    whole = ChunkSum()
                whole.add(chunk)
        return whole.chunk()

    async def astream(
        self, input: PromptValue, config: RunnableConfig | None = None, **kwargs: object
    ) -> AsyncIterator[BaseMessage]:
        """Make a request, and yield the answer as it arrives."""
        fields = {**(config or {}).get("configurable", {}), **kwargs}
        temperature, budget = fields.get("temperature"), fields.get("max_tokens")
        exchange: Exchange = fields.get(_HELD) or Exchange()
        reader = find_reader(config)
        if reader is not None:
            reader.on_leave(exchange.close)
        request = ReplyCall(
            model=str(fields.get("model") or ""),
            messages=_messages(input),
            options=ModelOptions(temperature=temperature if temperature is not None and temperature >= 0 else None),
            max_tokens=budget if budget is not None and budget > 0 else None,
        )
        exchange.fields = request_fields(request)
        try:
            async with fields.get(CALL_SLOT, nullcontext)(), _opened(self._upstream) as upstream:
                try:
                    if reader is not None:
                        await reader.wait()
                    ask, call = await _target(upstream, request, config, exchange)
                    async with aclosing(RoleNegotiator(ask, DEFAULT_PROMPTS, self._role_support).ask(call)) as stream:
                        async for chunk in stream:
                            yield chunk
                            if reader is not None:
                                await reader.wait()
                finally:
                    exchange.close()
        except RunError as error:
            if not self._returns_errors:
                raise
            yield AIMessageChunk(content=f"\n\n[{error.code}] {error.message}")


async def _target(
    upstream: Upstream | ModelRouter, call: ReplyCall, config: RunnableConfig | None, exchange: Exchange
) -> tuple[Ask, ReplyCall]:
    """Return a function that calls the upstream of a model, and the call with its full name. Raises RunError."""
    source: ModelSource | ModelRouter = upstream
    name = model = call.model
    if isinstance(upstream, ModelRouter):
        route = await upstream.route(model)
        source, model = route.upstream.source, route.model
        name = route.upstream.qualified(model)
    call = replace(call, model=name)  # facts about a model apply to one upstream only
    if isinstance(source, Provider):
        return lambda request: source.follow(replace(request, model=model), config), call
    assert isinstance(source, Upstream)
    chat = chat_model(source)

    async def ask(request: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        carried: ModelKeywords = {"model": model, "stream_usage": True, EXCHANGE: exchange}
        stream = chat.astream(request.messages, config, **carried)
        async with aclosing(stream):  # type: ignore[type-var]  # LangChain declares its generators as iterators
            async for chunk in stream:
                if isinstance(chunk, AIMessageChunk):
                    yield chunk

    return ask, call


def _messages(prompt: PromptValue) -> list[BaseMessage]:
    """Return the messages, without an empty system message, which some engines refuse."""
    return [message for message in prompt.to_messages() if message.content or isinstance(message, HumanMessage)]


@asynccontextmanager
async def _opened(upstream: Upstream | ModelRouter | str) -> AsyncIterator[Upstream | ModelRouter]:
    if not isinstance(upstream, str):
        yield upstream
        return
    own = Upstream(upstream)
    await own.open()
    try:
        yield own
    finally:
        await own.close()
