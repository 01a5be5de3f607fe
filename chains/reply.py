"""One model call: messages in, message chunks out, through langchain-openai's ChatOpenAI and the lean client.

Laws: only RunError (and cancellation) comes out; leaving the stream closes the upstream's connection at once; what is
None is not sent; the model's name never changes what else is sent. A call without functions is one request, handed on
as it comes; how functions are called is the business of `chains/calls/`.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

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
from chains.calls import Abilities, Modes, ToolCalls, concerns_tools
from chains.chunks import TextChunk
from chains.context import Prompt
from chains.fast_client import EXCHANGE, Exchange, LeanCompletions
from chains.fitting import fit_prompt
from chains.passback import EXTRA_FIELDS, extra_fields
from chains.prompts import DEFAULT_PROMPTS, Prompts
from chains.reply_call import ReplyCall
from chains.upstream import Upstream

__all__ = ["TAKEN", "Replies", "ReplyCall", "chat_model", "is_followed"]

TAKEN = "threadhold_taken"
"""Key of a chunk's `additional_kwargs`: all text before it was thoughts (no tag had opened them)."""

_NAME = "threadhold"
_NOWHERE = "http://127.0.0.1:9/v1"  # the discard port, for a ChatOpenAI that is built before a MODEL_URL is set


class Replies:
    """Model calls at one upstream."""

    def __init__(
        self, upstream: Upstream, *, tool_calls: ToolCalls = "auto", prompts: Prompts = DEFAULT_PROMPTS
    ) -> None:
        self.upstream = upstream
        self._chat = chat_model(upstream)
        self._modes = Modes(Abilities(upstream, tool_calls), prompts, self._request)

    def context_limit(self, model: str) -> int | None:
        """Return the model's context length in tokens where it is known."""
        return self.upstream.context_limit(model)

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context length, in tokens, that the upstream has told."""
        self.upstream.learn_limit(model, limit)

    def tokens_per_char(self, model: str) -> float:
        """Return the estimate for this model, corrected by every answer's usage."""
        return self.upstream.calibration.ratio(model)

    def learn(self, model: str, *, chars: int, prompt_tokens: int) -> None:
        """Take in what a prompt of `chars` characters turned out to have."""
        self.upstream.calibration.learn(model, chars=chars, tokens=prompt_tokens)

    async def calls_natively(self, model: str) -> bool:
        """Whether the model's server makes tool calls itself; may ask it, the first time. Raises RunError."""
        return await self._modes.are_native(model)

    async def fit(self, model: str, prompt: Prompt, *, answer: int | None) -> Prompt:
        """Return the prompt as the model can take it, with room for an answer of up to `answer` tokens."""
        return await fit_prompt(prompt, model, self.upstream, ratio=self.tokens_per_char(model), answer=answer)

    def stream(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Yield the answer as it comes; the last chunks carry finish reason and usage.

        Calls look alike in every mode of calling: `tool_call_chunks` with index, name and arguments; what stayed wrong
        is in `invalid_tool_calls`, its `error` being what the model is to be told.

        Raises RunError: RateLimited, PromptRefused, ContextOverflow, UpstreamFailed.
        """
        return self._modes.stream(call) if concerns_tools(call) else self._modes.ask(call)

    async def _request(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Make one request."""
        traced = is_followed(var_child_runnable_config.get())
        kept = {place: text for place, message in enumerate(call.messages) if (text := extra_fields(message))}
        exchange = Exchange(together=call.together and not traced, kept=kept, **_fields(call))
        carried: dict[str, Any] = {"model": call.model, "stream_usage": True, EXCHANGE: exchange}
        stream = self._traced(call, carried) if traced else self._untraced(call, carried)
        try:
            async with aclosing(stream):
                async for chunk in stream:
                    yield chunk
        finally:
            exchange.close()

    async def _traced(self, call: ReplyCall, carried: dict[str, Any]) -> AsyncGenerator[AIMessageChunk]:
        async for chunk in self._chat.astream(call.messages, **carried):
            if isinstance(chunk, AIMessageChunk):
                yield chunk

    async def _untraced(self, call: ReplyCall, carried: dict[str, Any]) -> AsyncGenerator[AIMessageChunk]:
        """The same without what `astream` does for callbacks, at every call and token, when there is none."""
        async for generated in self._chat._astream(call.messages, **carried):  # noqa: SLF001
            message = generated.message
            if isinstance(message, AIMessageChunk):
                if generated.generation_info:
                    message.response_metadata = {**generated.generation_info, **message.response_metadata}
                yield message


def is_followed(config: RunnableConfig | None) -> bool:
    """Tell whether somebody follows LangChain's callbacks: a handler in this config, LangSmith by its usual variables,
    or a global debug switch."""
    callbacks = (config or {}).get("callbacks")
    handlers = callbacks if isinstance(callbacks, list) else getattr(callbacks, "handlers", None)
    return bool(handlers or tracing_is_enabled() or get_debug() or get_verbose())


_SAID = ChatGenerationChunk(message=AIMessageChunk(content="", response_metadata={"model_provider": "openai"}))


def _said(content: str | list[str]) -> ChatGenerationChunk:
    """Return what ChatOpenAI makes of a chunk of text, in half the time: pydantic checks nothing that is known.

    A list or dict of it is never shared with another's.
    """
    fresh: dict[str, Any] = {
        "content": content,
        "additional_kwargs": {},
        "response_metadata": {"model_provider": "openai"},
        "tool_calls": [],
        "invalid_tool_calls": [],
        "tool_call_chunks": [],
    }
    text = content if isinstance(content, str) else "".join(content)
    return _SAID.model_copy(update={"message": _SAID.message.model_copy(update=fresh), "text": text})


def _fragment(call: dict[str, Any]) -> ToolCallChunk:
    function = call.get("function") or {}
    return tool_call_chunk(
        name=function.get("name"), args=function.get("arguments"), id=call.get("id"), index=call["index"]
    )


class ThinkingChatOpenAI(ChatOpenAI):
    """ChatOpenAI, which drops `reasoning_content` and unknown fields: here they stay, beside the text."""

    def _convert_chunk_to_generation_chunk(self, chunk: dict[str, Any], *args: Any) -> ChatGenerationChunk | None:
        if type(chunk) is TextChunk:
            return _said(chunk["choices"][0]["delta"]["content"])
        choices = chunk["choices"]
        calls = choices[0]["delta"].pop("tool_calls", None) if choices else None
        generated = super()._convert_chunk_to_generation_chunk(chunk, *args)
        if calls and generated is not None and isinstance(generated.message, AIMessageChunk):
            generated.message = with_calls(generated.message, [_fragment(call) for call in calls])
        if choices and generated is not None:
            delta, beside = choices[0]["delta"], generated.message.additional_kwargs
            if "reasoning_content" in delta:
                beside["reasoning_content"] = delta["reasoning_content"]
                if "taken" in delta:
                    beside[TAKEN] = True
            if EXTRA_FIELDS in delta:
                beside[EXTRA_FIELDS] = delta[EXTRA_FIELDS]
        return generated


def chat_model(upstream: Upstream) -> ChatOpenAI:
    """Return a ChatOpenAI whose streams go through the lean client; `model` may be bound to any name.

    All is set here that ChatOpenAI would else take from the environment (base URL, key) or guess from the model's
    name (temperature, Responses API, system role). It gets no key, and makes no clients of openai's beside ours.
    """
    lean = LeanCompletions(upstream)
    return ThinkingChatOpenAI(
        model=_NAME,
        base_url=upstream.endpoint.base if upstream.endpoint else _NOWHERE,
        api_key=SecretStr("held by the client"),
        client=lean,
        async_client=lean,
        streaming=True,
        stream_usage=True,
        stream_chunk_timeout=None,  # the transport limits silence
        max_retries=0,  # `chains.retries` does it
        use_responses_api=False,
    )


def _fields(call: ReplyCall) -> dict[str, Any]:
    """The body's fields beside model and messages; they go round ChatOpenAI, which would change some of them."""
    tools = call.tools or None
    return {
        "tools": tools,
        "tool_choice": call.tool_choice if tools else None,
        "parallel_tool_calls": call.parallel_tool_calls if tools else None,
        "response_format": None if call.response_format in ("auto", None) else call.response_format,
        "temperature": call.temperature,
        "top_p": call.top_p,
        "reasoning_effort": call.reasoning_effort,
        "max_tokens": call.max_tokens,
    }
