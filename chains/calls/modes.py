"""Generates replies with functions, each in the mode of its model; all modes yield the same kinds of chunks.

Invariants: the mode is chosen here, by model (see `capabilities`). If a server cannot parse its model's call, the reply
is requested once more, then in mode schema. If a server ignores or refuses a form, the next one is
tried; the last form is a prompt. A model that repeats the same calls with the same outputs is offered no functions.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Final

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage

from chains.calls.capabilities import Capabilities, Form
from chains.calls.constrained import Constrained, FormatIgnored
from chains.calls.native import stream_native
from chains.calls.offered_tools import OfferedTools
from chains.calls.plain import canonical
from chains.calls.reply_usage import ReplyUsage
from chains.calls.role_negotiation import RoleNegotiator
from chains.error_responses import error_response_of
from chains.prompts import Prompts
from chains.quotes import RequestText
from chains.reply_call import Ask, ReplyCall
from wire.errors import MalformedCall, PromptRefused, RunError, UpstreamFailed

__all__ = ["Modes", "concerns_tools"]

_NO_NAMES: Final = re.compile(r"tool_choice", re.I)
_NO_TOOLS: Final = re.compile(
    r"not (?:support|allow|implement)\w* (?:the )?(?:use of )?(?:tools|tool[ _]c|function)|enable-auto-tool-choice"
    r"|\btools?\b[^.]{0,40}\bnot (?:supported|allowed|implemented)|extra\w{0,20}[^.]{0,30}\btools\b",
    re.I,
)


_NATIVE_TRIES: Final = 2
"""A call that its server cannot parse is mostly a random error of the model, and the next attempt succeeds."""

_CHECKS: Final = ("chains.calls.schemas", "json_repair")
"""Modules that check and repair calls. They take 3 MB, so the first reply with functions loads them."""


def concerns_tools(call: ReplyCall) -> bool:
    """Whether a request offers functions or contains outputs of calls."""
    return bool(call.tools) or any(isinstance(message, ToolMessage) for message in call.messages)


@dataclass(slots=True)
class _Native:
    """The state of a reply in native mode: what the client has received, and how often its server failed."""

    call: ReplyCall
    wrote: bool = False
    called: bool = False
    ended: bool = False
    tries: int = 0
    refused: PromptRefused | None = None


class Modes:
    """Generates replies with functions at one upstream."""

    def __init__(self, capabilities: Capabilities, prompts: Prompts, ask: Ask) -> None:
        self._capabilities = capabilities
        self._prompts = prompts
        self._role_negotiator = RoleNegotiator(ask, prompts)
        self._loaded = False

    def ask(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Make one request, with roles that its server accepts; see `RoleNegotiator`. Raises RunError."""
        return self._role_negotiator.ask(call)

    async def are_native(self, model: str) -> bool:
        """Whether the model's server supports tool calls, as far as is known; may probe it the first time."""
        return await self._capabilities.mode(model, self.ask) == "native"

    async def stream(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Yield a reply. Raises RunError."""
        if not self._loaded:  # takes 0.1 s, which would block every stream
            await asyncio.to_thread(lambda: [import_module(name) for name in _CHECKS])
            self._loaded = True
        reply_usage = ReplyUsage(call.max_tokens)
        steps = self._steps(call, reply_usage)
        async with aclosing(steps):
            async for chunk in steps:
                yield chunk
        yield reply_usage.last()

    async def _steps(self, call: ReplyCall, reply_usage: ReplyUsage) -> AsyncGenerator[AIMessageChunk]:
        if await self._capabilities.mode(call.model, self.ask) == "native":
            native = _Native(call)
            for _ in range(_NATIVE_TRIES):
                async with aclosing(self._native(native, reply_usage)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                if native.ended:
                    return
                if native.wrote or native.refused is not None:
                    break
            if native.refused is None:
                self._capabilities.count_unreadable(call.model)
            else:
                self._capabilities.disable_native(call.model)
            # The model was about to make a call, so after its text only a call is missing.
            call = replace(call, tool_choice=call.tool_choice or "required") if native.wrote else call
        lower = self._constrained(call, reply_usage)
        async with aclosing(lower):
            async for chunk in lower:
                yield chunk

    async def _native(self, native: "_Native", reply_usage: ReplyUsage) -> AsyncGenerator[AIMessageChunk]:
        """Make one native attempt, and record its outcome in `native`. Raises errors that no other mode can avoid."""
        call = native.call
        offered = replace(call, tools=[], tool_choice=None) if _repeats_itself(call.messages) else call
        offer = OfferedTools(offered.tools, self._prompts, lenient=call.lenient)
        steps = stream_native(offered, self._natively, reply_usage, offer)
        try:
            async with aclosing(steps):
                async for chunk in steps:
                    native.wrote = native.wrote or bool(chunk.content)
                    native.called = native.called or bool(chunk.tool_call_chunks)
                    yield chunk
            native.ended = True
            if offered.tools:
                self._capabilities.reset_unreadable(call.model)
        except MalformedCall:
            native.tries += 1
            if native.called:  # valid calls were already sent: they are the reply
                native.ended, reply_usage.finish = True, "tool_calls"
            elif not call.tools and (native.wrote or native.tries == _NATIVE_TRIES):
                raise
        except PromptRefused as error:
            refuses = self._capabilities.setting == "auto" and _refuses_tools(error, call)
            if native.wrote or native.called or not refuses:
                raise
            native.refused = error

    def _natively(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Make one request with tools. If the server supports no named choice, offer only the named function, with
        `required`."""
        unnamed = self._capabilities.unnamed

        def retry(error: RunError) -> AsyncGenerator[AIMessageChunk] | None:
            if not isinstance(error, PromptRefused) or not _NO_NAMES.search(error.message):
                return None
            unnamed[call.model] = True
            return self._role_negotiator.ask(_narrowed(call), once=True)

        if not isinstance(call.tool_choice, dict) or call.model in unnamed:
            return self._role_negotiator.ask(_narrowed(call), once=True)
        return _or_retry(self._role_negotiator.ask(call, once=True), retry)

    async def _constrained(self, call: ReplyCall, reply_usage: ReplyUsage) -> AsyncGenerator[AIMessageChunk]:
        """Try the forms in order until the server obeys one."""
        offer = OfferedTools(call.tools, self._prompts)
        first = self._capabilities.form(call.model)
        form: Form | None = first
        refused: RunError | None = None
        while form is not None:
            started = False
            constrained = Constrained(
                call, self.ask, reply_usage, offer, self._prompts, form, self._capabilities.reply_limit(call.model)
            )
            steps = constrained.stream()
            try:
                async with aclosing(steps):
                    async for chunk in steps:
                        started = True
                        yield chunk
                return
            except FormatIgnored:
                form = self._capabilities.reject_form(call.model, form)
            except PromptRefused as error:
                refused = refused or error
                if started or not call.tools or form == "prompt" or not _is_about_form(error):
                    break
                form = self._capabilities.reject_form(call.model, form)
        self._capabilities.restore_form(call.model, first)  # the refusal was not about the form
        assert refused is not None
        raise refused


def _refuses_tools(error: RunError, call: ReplyCall) -> bool:
    """Whether the server itself states that it supports no tools, rather than quoting the request."""
    found = _NO_TOOLS.search(error.message)
    if found is None:
        return False
    sent = RequestText({"tools": call.tools}, [message.content for message in call.messages])
    return not sent.is_quoted(error.message, *found.span())


def _is_about_form(error: RunError) -> bool:
    error_response = error_response_of(error)
    return error_response is None or error_response.is_about_form


async def _or_retry(
    first: AsyncGenerator[AIMessageChunk], retry: Callable[[RunError], AsyncGenerator[AIMessageChunk] | None]
) -> AsyncGenerator[AIMessageChunk]:
    """Yield a request's chunks; if it is refused before the first one, those that `retry` returns."""
    started = False
    try:
        async with aclosing(first):
            async for chunk in first:
                started = True
                yield chunk
        return
    except (PromptRefused, UpstreamFailed) as error:
        second = None if started else retry(error)
        if second is None:
            raise
    async with aclosing(second):
        async for chunk in second:
            yield chunk


def _narrowed(call: ReplyCall) -> ReplyCall:
    """Return a request whose named choice is its only function, with `required`."""
    if not isinstance(call.tool_choice, dict):
        return call
    name = call.tool_choice.get("function", {}).get("name")
    only = [tool for tool in call.tools if tool["function"]["name"] == name]
    return replace(call, tools=only, tool_choice="required") if only else replace(call, tool_choice=None)


def _repeats_itself(messages: list[BaseMessage]) -> bool:
    """Whether the last two rounds made the same calls and got the same outputs, so that a third is useless.

    The same calls with different outputs are no repetition: agents must be able to look again at what changes (a
    screen, a queue, a die).
    """
    rounds: list[list[BaseMessage]] = []
    for message in messages:
        if isinstance(message, AIMessage) and message.tool_calls:
            rounds.append([message])
        elif isinstance(message, ToolMessage) and rounds:
            rounds[-1].append(message)
        else:
            rounds = []
    return len(rounds) > 1 and _calls_and_outputs(rounds[-1]) == _calls_and_outputs(rounds[-2])


def _calls_and_outputs(round_: list[BaseMessage]) -> list[tuple[str, str]]:
    calls = [
        (call["name"], canonical(call["args"]))
        for message in round_
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    ]
    outputs = [("", str(message.content)) for message in round_ if isinstance(message, ToolMessage)]
    return sorted(calls) + sorted(outputs)
