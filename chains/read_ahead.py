"""Reads long prompts into the built-in engine in slices, so that other owners' answers continue in between.

llama.cpp fills each batch from its slots in order. Without slices, a short prompt would wait until a prompt of 7,000
tokens is read, and other answers would get one token per batch. A slice stays in the slot's cache, where the request
itself finds it. While another owner is served, each slice is followed by a pause of the same length.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import aiohttp
import orjson

from chains.engine_prompts import split_prompts
from chains.forwarding import CHAT
from chains.llama_tokens import apply_template, tokenize
from chains.transport import Transport

__all__ = ["read_ahead"]

_SLICE: Final = 256
"""Tokens of a slice: as many as a batch has."""
_FEW_BYTES: Final = 600
"""Requests of fewer bytes are not split: a prompt has at most one token per byte of its request, so it fills about two
batches."""


async def read_ahead(
    transport: Transport, body: Mapping[str, object], path: str, *, context: int, has_other_owners: Callable[[], bool]
) -> int:
    """Read all but the end of each prompt that is long and fits into `context` (tokens). Return early if the engine
    refuses one: the request itself then gets the reason.

    Returns how many tokens were read, without those that were cached.
    """
    count = 0
    post = partial(_post, transport)
    try:
        if len(orjson.dumps(body)) < _FEW_BYTES:
            return count
        if path == CHAT:
            prompts: list[object] = [await apply_template(post, {**body, "stream": False})]
        else:
            prompts = split_prompts(body["prompt"])
        for prompt in prompts:
            tokens = await tokenize(post, prompt) if isinstance(prompt, str) else prompt
            if not isinstance(tokens, list) or not tokens or len(tokens) >= context:
                return count
            for end in range(_SLICE, len(tokens), _SLICE):
                since = time.monotonic()
                answer = await post("/completion", {"prompt": tokens[:end], "n_predict": 0, "cache_prompt": True})
                if answer is None:
                    return count
                count += _tokens_read(answer)
                if has_other_owners():
                    await asyncio.sleep(time.monotonic() - since)
    except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONEncodeError):
        pass
    return count


def _tokens_read(answer: object) -> int:
    timings = answer.get("timings") if isinstance(answer, dict) else None
    count = timings.get("prompt_n") if isinstance(timings, dict) else None
    return count if type(count) is int and count > 0 else 0


async def _post(transport: Transport, path: str, body: Mapping[str, object]) -> object:
    """Return the answer's JSON; None if it is a refusal."""
    url = f"{transport.endpoint.base.removesuffix('/v1')}{path}"
    async with asyncio.timeout(transport.limits.idle_s):
        response = await transport.send("POST", url, orjson.dumps(body), is_probe=True)
        try:
            return orjson.loads(await response.read()) if response.status == 200 else None
        finally:
            response.release() if response.content.at_eof() else response.close()
