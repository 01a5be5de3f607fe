"""Counts the tokens of completions that are passed through, if their upstream reports them.

Invariants: the answer is passed on unchanged, and nothing waits for the count. Of a stream, only the end is kept: the
upstream reports its tokens there, if the client asked for it (`stream_options.include_usage`).
"""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import orjson
from fastapi import Request

from api.depends import Deps
from api.key_ring import KeyRing
from chains.forwarding import GENERATING, Body
from chains.upstream_response import UpstreamResponse
from store.ports import CountUsage
from telemetry.context import current_key
from wire.assistants import MAX_MODEL_NAME

__all__ = ["ReportedTokens", "counted_blocks", "counter_of", "read_tokens"]

_TAIL_BYTES: Final = 16 * 1024
_WHOLE_BYTES: Final = 256 * 1024
"""A larger body is not decoded for its usage: only its end is searched."""
_USAGE: Final = b'"usage"'
_MAX_TOKENS: Final = 10**12

Counter = Callable[["ReportedTokens"], None]


@dataclass(frozen=True, slots=True)
class ReportedTokens:
    """What an upstream reported of one completion."""

    prompt: int
    completion: int
    cached: int = 0


def counter_of(request: Request, deps: Deps, path: str, body: Body, response: UpstreamResponse) -> Counter | None:
    """Return what counts the tokens of an answer for the request's owner and key; None if it is no completion."""
    if path not in GENERATING or response.status != 200 or not isinstance(body, dict):
        return None
    owner, key = request.state.owner, current_key()
    keys: KeyRing = request.app.state.keys
    named = body.get("model")
    model = named[:MAX_MODEL_NAME] if isinstance(named, str) else ""

    def count(tokens: ReportedTokens) -> None:
        used = (tokens.prompt, tokens.completion, tokens.cached)
        change = CountUsage(owner, int(time.time()), model, "chat", 1, *used, key_id=key)
        deps.store.commit([change], durable=False)
        keys.limiter.count_tokens(key, tokens.prompt + tokens.completion)

    return count


async def counted_blocks(blocks: AsyncIterator[bytes], count: Counter) -> AsyncIterator[bytes]:
    """Yield the blocks of a stream, and count the tokens that it reports at its end."""
    tail = b""
    async with aclosing(blocks) as open_blocks:  # type: ignore[type-var]
        async for block in open_blocks:
            tail = (tail + block)[-_TAIL_BYTES:]
            yield block
    if (tokens := _last_tokens(tail)) is not None:
        count(tokens)


def read_tokens(body: bytes) -> ReportedTokens | None:
    """Return the tokens that a whole answer reports, or None."""
    if len(body) > _WHOLE_BYTES:
        return _last_tokens(body[-_TAIL_BYTES:])
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return _tokens(answer.get("usage")) if isinstance(answer, dict) else None


def _last_tokens(tail: bytes) -> ReportedTokens | None:
    """Find the last usage in the end of an answer. A string in JSON cannot contain the name with its quotes."""
    end = len(tail)
    while (found := tail.rfind(_USAGE, 0, end)) != -1:
        rest = tail[found + len(_USAGE) :].decode("utf-8", "replace").lstrip()
        if rest.startswith(":"):
            try:
                usage, _ = json.JSONDecoder().raw_decode(rest[1:].lstrip())
            except (ValueError, RecursionError):
                usage = None
            if (tokens := _tokens(usage)) is not None:
                return tokens
        end = found
    return None


def _tokens(usage: object) -> ReportedTokens | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return ReportedTokens(prompt, completion, min(cached, prompt)) if prompt or completion else None


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value <= _MAX_TOKENS else 0
