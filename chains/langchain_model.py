"""Model calls through any LangChain chat model, for programs that pass their own.

Invariants: as in `reply`, a call raises only RunError or is cancelled, and leaving the stream closes the model's own.
The model keeps its name, its key and its defaults: only options that the call sets are passed on.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable

from chains.calls import Capabilities, Modes, concerns_tools
from chains.chat_types import ModelKeywords
from chains.context import Prompt
from chains.extra_fields import EXTRA_FIELDS
from chains.fitting import Uncounted, fit_prompt
from chains.fragments import CallFragments, number_calls
from chains.model_facts import ModelFacts
from chains.native_replies import NativeReply, restore_native_replies
from chains.prompts import DEFAULT_PROMPTS
from chains.provider_chunks import AnswerSize
from chains.reply_call import ReplyCall
from chains.tokens import Calibration
from wire.errors import PromptRefused, RunError, UpstreamFailed

__all__ = ["LangChainBackend"]


class LangChainBackend:
    """The `ChatBackend` (see `chains.model_router`) for one LangChain chat model."""

    def __init__(self, chat: BaseChatModel) -> None:
        self._chat = chat
        self._calibration = Calibration()
        self._limits: ModelFacts[int] = ModelFacts()
        self._modes = Modes(Capabilities(None, "native"), DEFAULT_PROMPTS, self._request)

    def context_limit(self, model: str) -> int | None:
        """Return the context length in tokens that a refusal stated, None if none did: a chat model does not report
        it."""
        return self._limits.get(model)

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context length, in tokens."""
        self._limits[model] = limit

    async def calls_natively(self, model: str) -> bool:
        """Whether the model's server makes tool calls itself. Raises RunError."""
        return await self._modes.are_native(model)

    async def fit(self, model: str, prompt: Prompt, *, answer: int | None) -> Prompt:
        """Return the prompt shortened to the model's context, with space for an answer of up to `answer` tokens."""
        ratio = self.tokens_per_char(model)
        return await fit_prompt(prompt, model, Uncounted(self.context_limit), ratio=ratio, answer=answer)

    def tokens_per_char(self, model: str) -> float:
        """Return the estimate, which every answer's usage corrects."""
        return self._calibration.ratio(model)

    def calibrate(self, model: str, *, chars: int, prompt_tokens: int) -> None:
        """Correct the estimate with the token count of a prompt of `chars` characters."""
        self._calibration.update(model, chars=chars, tokens=prompt_tokens)

    def stream(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Yield the answer as it arrives; tool calls are checked as for every backend. Raises RunError."""
        return self._modes.stream(call) if concerns_tools(call) else self._request(call)

    async def _request(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        name = type(self._chat).__name__
        size = AnswerSize(name, "Give it a limit of tokens.")
        calls = CallFragments([tool["function"]["name"] for tool in call.tools])
        model = str(getattr(self._chat, "model_name", None) or getattr(self._chat, "model", ""))
        reply = NativeReply(name, model)
        try:
            bound = self._with_tools(call)
            stream = bound.astream(restore_native_replies(call.messages, name, model), **_options(call))
            async with aclosing(stream):  # type: ignore[type-var]
                async for message in stream:
                    chunk = _as_chunk(message)
                    size.add(chunk)
                    if call.tools:
                        reply.add(chunk)
                    yield number_calls(calls, chunk)
            if calls and (kept := reply.to_json()):
                yield AIMessageChunk(content="", additional_kwargs={EXTRA_FIELDS: kept})
        except RunError:
            raise
        except NotImplementedError as error:
            raise PromptRefused(f"{name} does not support tools. Use another model, or no tools.") from error
        # Foreign code: each provider raises its own errors, and every one means that this model call failed.
        except Exception as error:
            raise UpstreamFailed(f"{name} failed: {type(error).__name__}: {error}", quote=str(error)) from error

    def _with_tools(self, call: ReplyCall) -> Runnable[LanguageModelInput, AIMessage]:
        if not call.tools:
            return self._chat
        options: ModelKeywords = {"tool_choice": call.tool_choice, "parallel_tool_calls": call.parallel_tool_calls}
        choice = options["tool_choice"]
        if isinstance(choice, dict):  # LangChain expects only the function's name
            options["tool_choice"] = choice["function"]["name"]
        tools: Sequence[Any] = call.tools  # LangChain declares plain dicts
        return self._chat.bind_tools(tools, **{key: value for key, value in options.items() if value is not None})


def _options(call: ReplyCall) -> ModelKeywords:
    others = {
        "max_tokens": call.max_tokens,
        "response_format": None if call.response_format == "auto" else call.response_format,
    }
    return {**call.options.named(), **{name: value for name, value in others.items() if value is not None}}


def _as_chunk(message: BaseMessage) -> AIMessageChunk:
    """Return the message as a chunk: models that cannot stream return a complete message."""
    if isinstance(message, AIMessageChunk):
        return message
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return AIMessageChunk(
        content=message.content,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata if isinstance(message, AIMessage) else None,
        tool_call_chunks=[
            {
                "name": call["name"],
                "args": json.dumps(call["args"]),
                "id": call["id"],
                "index": index,
                "type": "tool_call_chunk",
            }
            for index, call in enumerate(calls)
        ],
    )
