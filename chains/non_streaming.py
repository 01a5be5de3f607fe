"""Builds a client's complete answer from a stream, because llama.cpp stops only streams when their client leaves."""

import contextlib
from collections.abc import Awaitable, Callable, Iterable

import orjson

from chains.chat_types import Sent
from chains.sse import SseDecoder
from chains.stream_accumulator import StreamAccumulator
from chains.upstream import Upstream
from chains.upstream_response import UpstreamResponse
from wire.errors import UpstreamProblem

__all__ = ["complete_response", "complete_responses"]


async def complete_response(
    upstream: Upstream, body: dict[str, object], path: str, begun: Callable[[], None]
) -> UpstreamResponse:
    """Stream an answer and assemble it (see `chains/stream_accumulator.py`). `begun` is called at its first token.

    Raises UpstreamProblem.
    """
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    response = await upstream.pass_through(streamed, path)
    begun()
    if response.body is not None:  # refused
        return response
    accumulator, decoder = StreamAccumulator(), SseDecoder()
    with contextlib.closing(response):
        async for block in response.blocks():
            for payload in decoder.feed(block):
                accumulator.add(payload)
        for payload in decoder.end():
            accumulator.add(payload)
    whole = accumulator.completion()
    if whole is not None and accumulator.error is None:
        return UpstreamResponse(200, "application/json", response.headers, orjson.dumps(whole))
    error = accumulator.error["error"] if accumulator.error else None
    status = error.get("code") if isinstance(error, dict) else None
    if not isinstance(status, int):
        raise UpstreamProblem("the built-in engine ended its answer early", http_status=502)
    refused = UpstreamResponse(status, "application/json", response.headers, orjson.dumps(accumulator.error))
    return upstream.normalize_error(refused, path)


async def complete_responses(requests: Iterable[Awaitable[UpstreamResponse]], per_prompt: int = 1) -> UpstreamResponse:
    """Return the complete answers to several requests as one, with their choices in order and their tokens added.

    They are sent one after the other, because together they would delay other requests until all are done. The first
    refusal ends the sequence and is returned. Each `per_prompt` consecutive requests share a prompt, whose tokens are
    counted once, as OpenAI does.
    """
    answers: list[Sent] = []
    for request in requests:
        response = await request
        if response.status != 200 or response.body is None:
            return response
        answers.append(orjson.loads(response.body))
    choices = [choice for answer in answers for choice in answer["choices"]]
    usages = [answer.get("usage") or {} for answer in answers]
    prompted = sum(usage.get("prompt_tokens") or 0 for usage in usages[::per_prompt])
    completed = sum(usage.get("completion_tokens") or 0 for usage in usages)
    merged = {
        **answers[0],
        "choices": [{**choice, "index": index} for index, choice in enumerate(choices)],
        "usage": {
            "prompt_tokens": prompted,
            "completion_tokens": completed,
            "total_tokens": prompted + completed,
        },
    }
    return UpstreamResponse(200, "application/json", response.headers, orjson.dumps(merged))
