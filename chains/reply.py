"""One model call: messages in, message chunks out, through langchain-openai's ChatOpenAI and `FastCompletions`.

Invariants: a call raises only RunError, or is cancelled; leaving the stream closes the upstream's connection
immediately; None values are not sent; the model's name does not change other fields. A call without functions is one
request, whose chunks are yielded as they arrive; `chains/calls/` implements function calling.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from langchain_core.globals import get_debug, get_verbose
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langchain_openai import ChatOpenAI
from langsmith.utils import tracing_is_enabled
from pydantic import SecretStr

from chains.call_chunks import with_calls
from chains.calls import Capabilities, Modes, ToolCalls, concerns_tools
from chains.chat_types import CallDelta, ChatRequest, ModelKeywords
from chains.chunks import TextChunk
from chains.context import Prompt
from chains.extra_fields import EXTRA_FIELDS, extra_fields
from chains.fast_client import EXCHANGE, Exchange, FastCompletions
from chains.fitting import fit_prompt
from chains.prompts import DEFAULT_PROMPTS, Prompts
from chains.reply_call import ReplyCall
from chains.upstream import Upstream

__all__ = ["RECLASSIFIED", "OpenAIBackend", "ReplyCall", "chat_model", "is_followed", "request_fields"]

RECLASSIFIED = "threadhold_reclassified"
"""Key of a chunk's `additional_kwargs`: all text before it was reasoning without an opening tag."""

_NAME = "threadhold"
_NOWHERE = "http://127.0.0.1:9/v1"  # the discard port, for a ChatOpenAI without a MODEL_URL


class OpenAIBackend:
    """Model calls at one upstream."""

    def __init__(
        self, upstream: Upstream, *, tool_calls: ToolCalls = "auto", prompts: Prompts = DEFAULT_PROMPTS
    ) -> None:
        self.upstream = upstream
        self._chat = chat_model(upstream)
        self._modes = Modes(Capabilities(upstream, tool_calls), prompts, self._request)

    def context_limit(self, model: str) -> int | None:
        """Return the model's context length in tokens, None if it is unknown."""
        return self.upstream.context_limit(model)

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context length, in tokens, that the upstream stated."""
        self.upstream.learn_limit(model, limit)

    def tokens_per_char(self, model: str) -> float:
        """Return the estimate for this model, which every answer's usage corrects."""
        return self.upstream.calibration.ratio(model)

    def calibrate(self, model: str, *, chars: int, prompt_tokens: int) -> None:
        """Correct the estimate with the token count of a prompt of `chars` characters."""
        self.upstream.calibration.update(model, chars=chars, tokens=prompt_tokens)

    async def calls_natively(self, model: str) -> bool:
        """Whether the model's server makes tool calls itself; may ask the server the first time. Raises RunError."""
        return await self._modes.are_native(model)

    async def fit(self, model: str, prompt: Prompt, *, answer: int | None) -> Prompt:
        """Return the prompt shortened to the model's context, with space for an answer of up to `answer` tokens."""
        return await fit_prompt(prompt, model, self.upstream, ratio=self.tokens_per_char(model), answer=answer)

    def stream(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Yield the answer as it arrives; the last chunks have the finish reason and usage.

        Calls have the same form in every mode of calling: `tool_call_chunks` with index, name and arguments. A call
        that could not be repaired is in `invalid_tool_calls`; its `error` is the message for the model.

        Raises RunError: RateLimited, PromptRefused, ContextOverflow, UpstreamFailed.
        """
        return self._modes.stream(call) if concerns_tools(call) else self._modes.ask(call)

    async def _request(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Make one request."""
        traced = is_followed(var_child_runnable_config.get())
        kept = {index: text for index, message in enumerate(call.messages) if (text := extra_fields(message))}
        exchange = Exchange(request_fields(call), together=call.together and not traced, kept=kept)
        carried: ModelKeywords = {"model": call.model, "stream_usage": True, EXCHANGE: exchange}
        stream = self._traced(call, carried) if traced else self._untraced(call, carried)
        try:
            async with aclosing(stream):
                async for chunk in stream:
                    yield chunk
        finally:
            exchange.close()

    async def _traced(self, call: ReplyCall, carried: ModelKeywords) -> AsyncGenerator[AIMessageChunk]:
        async for chunk in self._chat.astream(call.messages, **carried):
            if isinstance(chunk, AIMessageChunk):
                yield chunk

    async def _untraced(self, call: ReplyCall, carried: ModelKeywords) -> AsyncGenerator[AIMessageChunk]:
        """Do the same without the work of `astream` for callbacks, at every call and token: there are no callbacks."""
        async for generated in self._chat._astream(call.messages, **carried):  # noqa: SLF001
            message = generated.message
            if isinstance(message, AIMessageChunk):
                if generated.generation_info:
                    message.response_metadata = {**generated.generation_info, **message.response_metadata}
                yield message


def is_followed(config: RunnableConfig | None) -> bool:
    """Return whether anything uses LangChain's callbacks: a handler in this config, LangSmith by its usual variables,
    or a global debug switch."""
    callbacks = (config or {}).get("callbacks")
    handlers = callbacks if isinstance(callbacks, list) else getattr(callbacks, "handlers", None)
    return bool(handlers or tracing_is_enabled() or get_debug() or get_verbose())


_TEXT_CHUNK = ChatGenerationChunk(message=AIMessageChunk(content="", response_metadata={"model_provider": "openai"}))


def _text_chunk(content: str | list[str]) -> ChatGenerationChunk:
    """Return what ChatOpenAI makes of a chunk of text, in half the time, because pydantic validates nothing.

    Chunks never share a list or dict.
    """
    fresh: dict[str, object] = {
        "content": content,
        "additional_kwargs": {},
        "response_metadata": {"model_provider": "openai"},
        "tool_calls": [],
        "invalid_tool_calls": [],
        "tool_call_chunks": [],
    }
    text = content if isinstance(content, str) else "".join(content)
    return _TEXT_CHUNK.model_copy(update={"message": _TEXT_CHUNK.message.model_copy(update=fresh), "text": text})


def _fragment(call: CallDelta) -> ToolCallChunk:
    function = call["function"]
    return tool_call_chunk(name=function["name"], args=function["arguments"], id=call.get("id"), index=call["index"])


class ReasoningChatOpenAI(ChatOpenAI):
    """ChatOpenAI that keeps `reasoning_content` and unknown fields, in `additional_kwargs`."""

    # `Any` as in ChatOpenAI; the chunk is a `Chunk` or `TextChunk`.
    def _convert_chunk_to_generation_chunk(self, chunk: dict[str, Any], *args: Any) -> ChatGenerationChunk | None:
        if type(chunk) is TextChunk:
            return _text_chunk(chunk["choices"][0]["delta"]["content"])
        choices = chunk["choices"]
        calls = choices[0]["delta"].pop("tool_calls", None) if choices else None
        generated = super()._convert_chunk_to_generation_chunk(chunk, *args)
        if calls and generated is not None and isinstance(generated.message, AIMessageChunk):
            generated.message = with_calls(generated.message, [_fragment(call) for call in calls])
        if choices and generated is not None:
            delta, additional = choices[0]["delta"], generated.message.additional_kwargs
            if "reasoning_content" in delta:
                additional["reasoning_content"] = delta["reasoning_content"]
                if "reclassified" in delta:
                    additional[RECLASSIFIED] = True
            if EXTRA_FIELDS in delta:
                additional[EXTRA_FIELDS] = delta[EXTRA_FIELDS]
        return generated


def chat_model(upstream: Upstream) -> ChatOpenAI:
    """Return a ChatOpenAI whose streams go through `FastCompletions`; `model` can be bound to any name.

    Everything is set that ChatOpenAI would otherwise take from the environment (base URL, key) or guess from the
    model's name (temperature, Responses API, system role). It gets no real key, and makes no clients of its own.
    """
    completions = FastCompletions(upstream)
    return ReasoningChatOpenAI(
        model=_NAME,
        base_url=upstream.endpoint.base if upstream.endpoint else _NOWHERE,
        api_key=SecretStr("held by the client"),
        client=completions,
        async_client=completions,
        streaming=True,
        stream_usage=True,
        stream_chunk_timeout=None,  # the transport limits silence
        max_retries=0,  # `chains.retries` retries
        use_responses_api=False,
    )


def request_fields(call: ReplyCall) -> ChatRequest:
    """Return the body's fields other than model and messages; they bypass ChatOpenAI, which would change some."""
    tools = call.tools or None
    fields = {
        "tools": tools,
        "tool_choice": call.tool_choice if tools else None,
        "parallel_tool_calls": call.parallel_tool_calls if tools else None,
        "response_format": None if call.response_format in ("auto", None) else call.response_format,
        **call.options.named(),
        "max_tokens": call.max_tokens,
    }
    return cast("ChatRequest", fields)
