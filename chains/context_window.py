"""The context lengths of models, and the token counts of prompts, as far as the engine reports them.

Invariants: an engine is asked once per model, within a time limit, and its answer is remembered. Nothing is downloaded.
Reading a known value never waits. Sources: llama.cpp `/props`, `/apply-template`, `/tokenize`; vLLM `max_model_len` and
`/tokenize`; LM Studio `/api/v0/models`; Ollama `/api/ps`, `/api/show`.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from langchain_core.messages import BaseMessage, convert_to_openai_messages

from chains.llama_tokens import apply_template, tokenize
from chains.model_facts import RecentModels
from chains.models import Models, listed_limit
from chains.transport import Transport

__all__ = ["ContextWindows"]

_ANSWER_S: Final = 2.0
"""The limit of one request; all requests about a model take at most `_ASK_S`."""

_ASK_S: Final = 4.0
_RETRY_S: Final = 600.0
_SOON_S: Final = 30.0
"""How soon an engine is asked again if it did not answer or the model was not loaded."""

_MAX_BYTES: Final = 16 * 1024 * 1024
_NUM_CTX: Final = re.compile(r"^num_ctx\s+(\d+)", re.MULTILINE)

Counter = Literal["llama.cpp", "vllm"]


@dataclass(frozen=True, slots=True)
class _Window:
    """A report about a model: its context in tokens, and the API that counts. `until` is time.monotonic()."""

    limit: int | None
    until: float
    counter: Counter | None = None


class ContextWindows:
    """The context windows of one upstream's models. `close` cancels open requests."""

    def __init__(self, transport: Callable[[], Transport | None], models: Models) -> None:
        self._transport = transport
        self._models = models
        self._reported: RecentModels[_Window] = RecentModels()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._uncounted_until = 0.0

    def limit(self, model: str) -> int | None:
        """Return the reported context of a model, in tokens. Never waits; if necessary, asks in the background."""
        window = self._reported.get(model)
        if window is None or time.monotonic() > window.until:
            self._ask(model)
        return None if window is None else window.limit

    async def ask(self, model: str) -> int | None:
        """Return the context as `limit` does, but wait for the first answer, for at most a few seconds."""
        if model not in self._reported and (asking := self._ask(model)) is not None:
            await asyncio.shield(asking)
        return self.limit(model)

    async def count(
        self, model: str, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, object]]
    ) -> int | None:
        """Return the number of tokens of a prompt; None if the engine does not report it in time."""
        window = self._reported.get(model)
        transport = self._transport()
        if window is None or transport is None or time.monotonic() < self._uncounted_until:
            return None
        body: dict[str, object] = {"messages": convert_to_openai_messages(messages)}
        if tools:
            body["tools"] = list(tools)
        try:
            match window.counter:
                case "llama.cpp":
                    count = await _count_llama(transport, body)
                case "vllm":
                    count = await _count_vllm(transport, {**body, "model": model})
                case None:
                    return None
        except (aiohttp.ClientError, TimeoutError, OSError):
            count = None
        if count is None:
            self._uncounted_until = time.monotonic() + _SOON_S
        return count

    async def close(self) -> None:
        """Cancel open requests."""
        for asking in list(self._asking.values()):
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

    def _ask(self, model: str) -> "asyncio.Task[None] | None":
        """Return the running request, or start one; None if there is no engine to ask."""
        transport = self._transport()
        if transport is None or transport.endpoint.is_openai:
            return None
        if (asking := self._asking.get(model)) is None:
            asking = asyncio.create_task(self._find(transport, model), name="upstream-window")
            self._asking[model] = asking
            asking.add_done_callback(lambda _: self._asking.pop(model, None))
        return asking

    async def _find(self, transport: Transport, model: str) -> None:
        began = time.monotonic()
        window: _Window | None = None
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with asyncio.timeout(_ASK_S):
                window = await self._window(transport, model)
        self._reported[model] = window or _Window(self._reported_limit(model), began + _SOON_S)

    def _reported_limit(self, model: str) -> int | None:
        known = self._reported.get(model)
        return None if known is None else known.limit

    async def _window(self, transport: Transport, model: str) -> _Window:
        later = time.monotonic() + _RETRY_S
        props = await _get(transport, f"/props?model={quote(model, safe='')}")
        if (limit := _number(props, "default_generation_settings", "n_ctx")) is not None:
            return _Window(limit, later, "llama.cpp")
        await self._models.wait_for_listing()
        entry: Mapping[str, object] = self._models.entry(model) or {}
        if (limit := _number(entry, "max_model_len")) is not None:
            return _Window(limit, later, "vllm")
        if (limit := listed_limit(entry)) is not None:
            return _Window(limit, later)
        for probe in (_lm_studio, _ollama):
            if (window := await probe(transport, model)) is not None:
                return window
        return _Window(None, later)


async def _lm_studio(transport: Transport, model: str) -> _Window | None:
    if not {"", ".", ".."}.isdisjoint(model.split("/")):
        return None  # such a path would be normalized to another one of the upstream's host
    reported = await _get(transport, f"/api/v0/models/{quote(model, safe='/')}")
    loaded, maximum = _number(reported, "loaded_context_length"), _number(reported, "max_context_length")
    if loaded is None and maximum is None:
        return None
    return _Window(loaded or maximum, time.monotonic() + (_RETRY_S if loaded else _SOON_S))


async def _ollama(transport: Transport, model: str) -> _Window | None:
    """Return a loaded model's context, else its `num_ctx`. The length that it was trained with proves nothing: Ollama
    loads less, and silently cuts longer prompts."""
    reported = await _get(transport, "/api/ps")
    running = reported.get("models") if isinstance(reported, dict) else None
    if not isinstance(running, list):
        return None
    names = (model, f"{model}:latest")
    for one in running:
        if isinstance(one, dict) and one.get("name") in names and (limit := _number(one, "context_length")):
            return _Window(limit, time.monotonic() + _RETRY_S)
    shown = await _post(transport, "/api/show", {"model": model})
    found = _NUM_CTX.search(str(shown.get("parameters") or "")) if isinstance(shown, dict) else None
    return _Window(int(found[1]) if found else None, time.monotonic() + _SOON_S)


async def _count_llama(transport: Transport, body: dict[str, object]) -> int | None:
    post = partial(_post, transport)
    prompt = await apply_template(post, body)
    tokens = None if prompt is None else await tokenize(post, prompt)
    return None if tokens is None else len(tokens)


async def _count_vllm(transport: Transport, body: dict[str, object]) -> int | None:
    return _number(await _post(transport, "/tokenize", {**body, "add_generation_prompt": True}), "count")


async def _get(transport: Transport, path: str) -> object:
    return await _answer(transport, lambda: transport.send("GET", _at(transport, path), is_probe=True))


async def _post(transport: Transport, path: str, body: dict[str, object]) -> object:
    return await _answer(
        transport, lambda: transport.send("POST", _at(transport, path), orjson.dumps(body), is_probe=True)
    )


async def _answer(transport: Transport, send: Callable[[], Awaitable[aiohttp.ClientResponse]]) -> object:
    """Return the answer's JSON; None for anything but 200 with JSON. Raises TimeoutError and the errors of `send`."""
    del transport
    async with asyncio.timeout(_ANSWER_S):
        response = await send()
        try:
            if response.status != 200:
                return None
            body = bytearray()
            async for block in response.content.iter_any():
                body += block
                if len(body) > _MAX_BYTES:
                    return None
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        finally:
            response.release() if response.content.at_eof() else response.close()


def _at(transport: Transport, path: str) -> str:
    """Return the URL of a path outside the OpenAI-compatible API: the address without `/v1`."""
    parts = urlsplit(transport.endpoint.base)
    below = parts.path.removesuffix("/v1") if parts.path.endswith("/v1") else parts.path
    return f"{parts.scheme}://{parts.netloc}{below}{path}"


def _number(value: object, *names: str) -> int | None:
    """Return the positive integer at these keys of a JSON value; None if there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if type(value) is int and value > 0 else None
