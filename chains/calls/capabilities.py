"""Chooses how each model of an upstream calls functions: by the setting, or by a mode that is detected once.

`auto` uses the first source that gives an answer: hosts that are known to support tool calls; llama.cpp's `/props`,
which describe the model's template; one probe, a tiny request that needs a call. Invariants: no probe is sent before a
request offers functions; a network failure decides nothing; a failure that shows a missing ability is remembered.
"""

import asyncio
import logging
import time
from contextlib import aclosing
from typing import Final, Literal, Protocol, TypeAlias

from langchain_core.messages import HumanMessage

from chains.calls.reply_usage import text_of
from chains.chat_types import FunctionTool
from chains.endpoint import Endpoint
from chains.model_facts import ModelFacts
from chains.prompts import PROBE_TEXT
from chains.reply_call import Ask, ReplyCall
from wire.errors import ContextOverflow, MalformedCall, PromptRefused, RateLimited, RunError, UpstreamFailed
from wire.model_options import ModelOptions

__all__ = ["Capabilities", "Form", "Mode", "ToolCalls"]

Mode: TypeAlias = Literal["native", "schema", "prompt"]
ToolCalls: TypeAlias = Literal["auto", "native", "schema", "prompt"]
"""The setting."""
Form: TypeAlias = Literal["json_schema", "json_object", "prompt"]
"""The `response_format` that an upstream obeys, from the strictest to none."""

_FORMS: Final[tuple[Form, ...]] = ("json_schema", "json_object", "prompt")
_NATIVE_CALL_HOSTS: Final = (
    "api.openai.com",
    "openai.azure.com",
    "api.anthropic.com",
    "api.mistral.ai",
    "api.deepseek.com",
    "api.x.ai",
    "generativelanguage.googleapis.com",
)
PROBE: Final[FunctionTool] = {
    "type": "function",
    "function": {
        "name": "ping",
        "description": "Answers pong",
        "parameters": {"type": "object", "properties": {}},
    },
}
_PROBE_TOKENS: Final = 400  # a reasoning model thinks first
_PROBE_CHARS: Final = 200  # a longer text is an answer, not a call
_PROBE_S: Final = 60.0
_RETRY_S: Final = 60.0  # after an inconclusive probe

_MAX_UNREADABLE: Final = 3
_NATIVE_RETRY_S: Final = 600.0

_log = logging.getLogger("threadhold.chains")


class UpstreamInfo(Protocol):
    """The part of `chains.Upstream` that `Capabilities` uses."""

    endpoint: Endpoint | None

    def reply_limit(self, model: str) -> int | None:
        """Return how many tokens a model's answer can have if its request sets no limit; None if there is no limit."""
        ...

    async def props(self, model: str) -> dict[str, object] | None:
        """Return llama.cpp's `/props`; None if the server has none."""
        ...


class Capabilities:
    """What is known about one upstream's models, by their upstream names."""

    def __init__(self, upstream: UpstreamInfo | None, setting: ToolCalls = "auto") -> None:
        """Without an upstream there is nothing to probe, and `auto` means native."""
        self.setting = setting
        self._upstream = upstream
        self._modes: ModelFacts[Mode] = ModelFacts()
        self._forms: ModelFacts[Form] = ModelFacts()
        self._undecided: ModelFacts[float] = ModelFacts()
        self._locks: ModelFacts[asyncio.Lock] = ModelFacts()
        self._unreadable: ModelFacts[int] = ModelFacts()
        self._schema_until: ModelFacts[float] = ModelFacts()
        self.unnamed: ModelFacts[bool] = ModelFacts()
        """Models whose server does not support a named `tool_choice`: llama.cpp ignores it, LM Studio refuses it."""

    async def mode(self, model: str, ask: Ask) -> Mode:
        """Return the mode of requests with functions; may wait for the probe, at most `_PROBE_S` seconds."""
        if (known := self._known(model)) is not None:
            return known
        lock = self._locks[model] = self._locks.get(model) or asyncio.Lock()
        async with lock:
            if (known := self._known(model)) is not None:  # another request has probed meanwhile
                return known
            found = await self._find_out(model, ask)
            if found is None:
                self._undecided[model] = time.monotonic() + _RETRY_S
                return "native"
            self._modes[model] = found
            _log.info("model `%s`: tool calls in mode %s", model, found)
            return found

    def reply_limit(self, model: str) -> int | None:
        """Return how many tokens a model's answer can have if its request sets no limit; None if there is no limit."""
        return None if self._upstream is None else self._upstream.reply_limit(model)

    def form(self, model: str) -> Form:
        """Return the best form that the model's server is not known to lack."""
        return self._forms.get(model, "prompt" if self.setting == "prompt" else "json_schema")

    def reject_form(self, model: str, form: Form) -> Form | None:
        """Remember that the server does not obey a form; return the next one to try, or None."""
        lower = _FORMS[_FORMS.index(form) + 1 :]
        if not lower:
            return None
        self._forms[model] = lower[0]
        _log.info("model `%s`: its server does not obey response_format `%s`; using `%s`", model, form, lower[0])
        return lower[0]

    def restore_form(self, model: str, form: Form) -> None:
        """Restore the form after the others failed as well."""
        self._forms[model] = form

    def disable_native(self, model: str) -> None:
        """Remember that the upstream's own tool calls do not work for this model."""
        self._modes[model] = "schema"
        _log.warning("model `%s`: native tool calls do not work; using mode schema", model)

    def count_unreadable(self, model: str) -> None:
        """Count a reply in which the server could not parse its model's calls.

        After `_MAX_UNREADABLE` such replies in a row, the model is in mode schema for `_NATIVE_RETRY_S` seconds.
        """
        count = self._unreadable[model] = self._unreadable.get(model, 0) + 1
        if count >= _MAX_UNREADABLE:
            self._schema_until[model] = time.monotonic() + _NATIVE_RETRY_S
            self._unreadable.forget(model)
            message = "model `%s`: its server could not parse %d calls in a row; using mode schema for %d minutes"
            _log.warning(message, model, count, _NATIVE_RETRY_S // 60)
        else:
            _log.info("model `%s`: its server could not parse its call; using mode schema for this reply", model)

    def reset_unreadable(self, model: str) -> None:
        """Reset the count, because native mode works."""
        self._unreadable.forget(model)

    def _known(self, model: str) -> Mode | None:
        if self._schema_until.get(model, 0.0) > time.monotonic():
            return "schema"
        if model in self._modes:
            return self._modes[model]
        if self.setting != "auto":
            return self.setting
        return "native" if self._undecided.get(model, 0.0) > time.monotonic() else None

    async def _find_out(self, model: str, ask: Ask) -> Mode | None:
        if self._upstream is None:
            return "native"
        endpoint = self._upstream.endpoint
        if endpoint is None or any(_is_at(endpoint.host, host) for host in _NATIVE_CALL_HOSTS):
            return "native"
        props = await self._upstream.props(model)
        caps = props.get("chat_template_caps") if props else None
        if isinstance(caps, dict) and isinstance(caps.get("supports_tools"), bool):
            self.unnamed[model] = True
            return "native" if caps["supports_tools"] else "schema"
        return await _probe(model, ask)


async def _probe(model: str, ask: Ask) -> Mode | None:
    """Request a call of a function; return None if the outcome decides nothing."""
    messages = [HumanMessage(PROBE_TEXT)]
    options = ModelOptions(temperature=0.0)
    call = ReplyCall(model=model, messages=list(messages), tools=[PROBE], options=options, max_tokens=_PROBE_TOKENS)
    text = ""
    try:
        async with asyncio.timeout(_PROBE_S), aclosing(ask(call)) as chunks:
            async for chunk in chunks:
                if any(fragment.get("name") for fragment in chunk.tool_call_chunks):
                    return "native"
                text += text_of(chunk)
                if len(text) > _PROBE_CHARS and not text.lstrip().startswith("<think"):
                    return "schema"
    except (ContextOverflow, RateLimited, TimeoutError):
        return None
    except (MalformedCall, PromptRefused):
        return "schema"
    except UpstreamFailed as error:
        return "schema" if error.status in (500, 501) else None
    except RunError:
        return None
    return "schema"


def _is_at(host: str, known: str) -> bool:
    name = host.partition(":")[0]
    return name == known or name.endswith(f".{known}")
