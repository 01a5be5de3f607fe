"""How each model of an upstream is got to call functions: as the setting says, or as is found out, once.

`auto` believes, in this order: the host, where it is known to do tool calls; llama.cpp's `/props`, which tell of the
model's template; one probe, a tiny request that needs a call. Laws: nothing is asked before a call with functions is
made; what failed for reasons of the network decides nothing; what was found out by failing is remembered as well.
"""

import asyncio
import logging
import time
from contextlib import aclosing
from typing import Any, Final, Literal, Protocol, TypeAlias

from langchain_core.messages import HumanMessage

from chains.calls.tally import text_of
from chains.endpoint import Endpoint
from chains.recent import Learned
from chains.reply_call import Ask, ReplyCall
from wire.errors import ContextOverflow, MalformedCall, PromptRefused, RateLimited, RunError, UpstreamFailed

__all__ = ["Abilities", "Form", "Mode", "ToolCalls"]

Mode: TypeAlias = Literal["native", "schema", "prompt"]
ToolCalls: TypeAlias = Literal["auto", "native", "schema", "prompt"]
"""The setting."""
Form: TypeAlias = Literal["json_schema", "json_object", "prompt"]
"""What `response_format` an upstream keeps to, from the best to none."""

_FORMS: Final[tuple[Form, ...]] = ("json_schema", "json_object", "prompt")
_GOOD_HOSTS: Final = (
    "api.openai.com",
    "openai.azure.com",
    "api.anthropic.com",
    "api.mistral.ai",
    "api.deepseek.com",
    "api.x.ai",
    "generativelanguage.googleapis.com",
)
PROBE: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "ping",
        "description": "Answers pong",
        "parameters": {"type": "object", "properties": {}},
    },
}
_PROBE_TEXT: Final = "Call the function ping now."
_PROBE_TOKENS: Final = 400  # a reasoning model thinks first
_PROBE_CHARS: Final = 200  # of an answer in words: then it is one
_PROBE_S: Final = 60.0
_AGAIN_S: Final = 60.0  # after a probe that decided nothing

_MOST_UNREADABLE: Final = 3
_NATIVE_AGAIN_S: Final = 600.0

_log = logging.getLogger("threadhold.chains")


class Told(Protocol):
    """What is needed of an upstream; `chains.Upstream` is one."""

    endpoint: Endpoint | None

    def reply_limit(self, model: str) -> int | None:
        """Return how many tokens a model's answer can have if its request sets no limit; None if there is no limit."""
        ...

    async def props(self, model: str) -> dict[str, Any] | None:
        """Return llama.cpp's `/props`; None where there are none."""
        ...


class Abilities:
    """What is known of one upstream's models, by their names there."""

    def __init__(self, upstream: Told | None, setting: ToolCalls = "auto") -> None:
        """Without an upstream there is nobody to ask, and `auto` is native."""
        self.setting = setting
        self._upstream = upstream
        self._modes: Learned[Mode] = Learned()
        self._forms: Learned[Form] = Learned()
        self._undecided: Learned[float] = Learned()
        self._locks: Learned[asyncio.Lock] = Learned()
        self._unreadable: Learned[int] = Learned()
        self._schema_until: Learned[float] = Learned()
        self.unnamed: Learned[bool] = Learned()
        """Models whose server does not do a named choice: llama.cpp takes it for `auto`, LM Studio refuses it."""

    async def mode(self, model: str, ask: Ask) -> Mode:
        """Return how to make a call with functions; may wait for the probe, `_PROBE_S` seconds at the most."""
        if (known := self._known(model)) is not None:
            return known
        lock = self._locks[model] = self._locks.get(model) or asyncio.Lock()
        async with lock:
            if (known := self._known(model)) is not None:  # somebody else has asked meanwhile
                return known
            found = await self._find_out(model, ask)
            if found is None:
                self._undecided[model] = time.monotonic() + _AGAIN_S
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

    def lacks(self, model: str, form: Form) -> Form | None:
        """Remember that the server does not keep to a form; return the next one to try."""
        lower = _FORMS[_FORMS.index(form) + 1 :]
        if not lower:
            return None
        self._forms[model] = lower[0]
        _log.info("model `%s`: its server does not keep to `%s`, `%s` is used", model, form, lower[0])
        return lower[0]

    def settle(self, model: str, form: Form) -> None:
        """Set the form again after others were tried in vain."""
        self._forms[model] = form

    def gives_up_native(self, model: str) -> None:
        """Remember that the upstream's own tool calls do not work for this model."""
        self._modes[model] = "schema"
        _log.warning("model `%s`: its own tool calls do not work, mode schema is used", model)

    def count_unreadable(self, model: str) -> None:
        """Count a reply in which the server could not parse its model's calls.

        After `_MOST_UNREADABLE` such replies in a row the model is in mode schema for `_NATIVE_AGAIN_S` seconds.
        """
        count = self._unreadable[model] = self._unreadable.get(model, 0) + 1
        if count >= _MOST_UNREADABLE:
            self._schema_until[model] = time.monotonic() + _NATIVE_AGAIN_S
            self._unreadable.forget(model)
            told = (
                "model `%s`: its server could not parse its calls %d times in a row; mode schema is used for %d minutes"
            )
            _log.warning(told, model, count, _NATIVE_AGAIN_S // 60)
        else:
            _log.info("model `%s`: its server could not parse its call; mode schema is used for this one", model)

    def forget_unreadable(self, model: str) -> None:
        """Remember that native mode works."""
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
        if endpoint is None or any(_is_at(endpoint.host, host) for host in _GOOD_HOSTS):
            return "native"
        props = await self._upstream.props(model)
        caps = props.get("chat_template_caps") if props else None
        if isinstance(caps, dict) and isinstance(caps.get("supports_tools"), bool):
            self.unnamed[model] = True
            return "native" if caps["supports_tools"] else "schema"
        return await _probe(model, ask)


async def _probe(model: str, ask: Ask) -> Mode | None:
    """Ask for a call of a function; None when nothing can be said."""
    messages = [HumanMessage(_PROBE_TEXT)]
    call = ReplyCall(model=model, messages=list(messages), tools=[PROBE], temperature=0.0, max_tokens=_PROBE_TOKENS)
    said = ""
    try:
        async with asyncio.timeout(_PROBE_S), aclosing(ask(call)) as chunks:
            async for chunk in chunks:
                if any(fragment.get("name") for fragment in chunk.tool_call_chunks):
                    return "native"
                said += text_of(chunk)
                if len(said) > _PROBE_CHARS and not said.lstrip().startswith("<think"):
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
