"""Reads long prompts into the built-in engine in slices, so that other owners' answers continue in between.

llama.cpp fills each batch from its slots in order. Without slices, a short prompt would wait until a prompt of 7,000
tokens is read, and other answers would get one token per batch. A slice stays in the slot's cache, where the request
itself finds it. While another owner is served, each slice is followed by a pause of the same length.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import aiohttp
import orjson

from chains.engine_prompts import count_chars
from chains.forwarding import CHAT
from chains.llama_tokens import apply_template, tokenize
from chains.transport import Transport

__all__ = ["read_ahead"]

_SLICE: Final = 256
"""Tokens of a slice: as many as a batch has."""
_FEW_CHARS: Final = 1_000
"""Shorter prompts are read in about one batch anyway."""


async def read_ahead(
    transport: Transport, body: Mapping[str, Any], path: str, *, context: int, has_company: Callable[[], bool]
) -> int:
    """Read all but the end of a prompt, if it is long and fits into `context` (tokens). Return early if the engine
    refuses the prompt: the request itself then gets the reason.

    Returns how many tokens were read, without those that were cached.
    """
    count = 0
    if count_chars(body.get("messages" if path == CHAT else "prompt")) < _FEW_CHARS:
        return count
    try:
        tokens = await _tokens(transport, body, path)
        if len(tokens) >= context:
            return count
        for end in range(_SLICE, len(tokens), _SLICE):
            since = time.monotonic()
            request = {"prompt": tokens[:end], "n_predict": 0, "cache_prompt": True}
            if (answer := await _post(transport, "/completion", request)) is None:
                return count
            count += _tokens_read(answer)
            if has_company():
                await asyncio.sleep(time.monotonic() - since)
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass
    return count


def _tokens_read(answer: Any) -> int:
    timings = answer.get("timings") if isinstance(answer, dict) else None
    count = timings.get("prompt_n") if isinstance(timings, dict) else None
    return count if type(count) is int and count > 0 else 0


async def _tokens(transport: Transport, body: Mapping[str, Any], path: str) -> list[Any]:
    """Return the tokens of the prompt as llama.cpp reads it; empty if they are unknown."""
    post = partial(_post, transport)
    prompt = await apply_template(post, {**body, "stream": False}) if path == CHAT else body.get("prompt")
    if isinstance(prompt, list) and all(type(token) is int for token in prompt):
        return prompt
    if not isinstance(prompt, str):
        return []  # several prompts are several requests
    return await tokenize(post, prompt) or []


async def _post(transport: Transport, path: str, body: Mapping[str, Any]) -> Any:
    """Return the answer's JSON; None if it is a refusal."""
    url = f"{transport.endpoint.base.removesuffix('/v1')}{path}"
    async with asyncio.timeout(transport.limits.idle_s):
        response = await transport.send("POST", url, orjson.dumps(body), is_probe=True)
        try:
            return orjson.loads(await response.read()) if response.status == 200 else None
        finally:
            response.release() if response.content.at_eof() else response.close()
