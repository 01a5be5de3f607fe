"""The pass-through: an upstream's answer to a client's own request, such as `/chat/completions`, as it comes.

Status, content type and JSON bodies pass unchanged, errors too (but for our key, should one quote it). Whoever takes a
Passage closes it; closing it, or the iterator, before the end closes the upstream.
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

import aiohttp
import orjson

from chains.blocks import MAX_ANSWER_BYTES, SHORTER_ANSWERS, blocks, when_closed, whole
from chains.endpoint import Endpoint
from chains.forwarding import CHAT, EMBEDDINGS, GENERATING, PROMPT_FIELDS, Outgoing, not_served
from chains.refusals import Refusal, explain, overflow_body, read_refusal
from chains.transport import Transport, failure
from wire.errors import InvalidRequest, NotFound, UpstreamFailed, UpstreamProblem

__all__ = ["Passage", "error_frame", "normalize_error", "open_passage", "with_openai_error"]

_PASSED_HEADERS: Final = ("Retry-After", "retry-after-ms")
"""Not `x-request-id`: an answer has one, the id under which our log has the request."""

_MAX_EMBEDDINGS_BYTES: Final = 256 * 1024 * 1024  # 2,048 vectors of 3,072 numbers, 20 digits each, and some more
_UNKNOWN_PATH: Final = re.compile(rb'\s*\{\s*"error"\s*:\s*"Unexpected endpoint')
"""LM Studio's answer to a path that it does not have; it comes with status 200."""

_ERROR: Final = re.compile(rb'\s*\{\s*"error"\s*:')
"""An error under a status of success, as OpenRouter sends them."""

_NO_WAY_ON: Final = "empty grammar stack"
_UNKNOWN: Final = re.compile(
    r"^\W*(?:404\W*)?(?:(?:page|file|resource) )?(?:not found)?\W*$|\brequested ur[li]\b|\b(?:route|endpoint)s?\b",
    re.IGNORECASE,
)
"""What a 404 for an unknown path says, where it does not quote the path. Any other is about what the request names."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Passage:
    """An upstream's answer: whole in `body`, or, when that is None, as a stream through `blocks()`."""

    status: int
    content_type: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    _response: aiohttp.ClientResponse | None = None
    _transport: Transport | None = None

    @property
    def closed(self) -> bool:
        """Whether the upstream has no more to do for it."""
        return self._response is None or self._response.closed

    @property
    def broke(self) -> bool:
        """Whether its connection broke before its end."""
        return self._response is not None and self._response.content.exception() is not None

    def when_closed(self, act: Callable[[], None]) -> None:
        """Call `act` when the upstream has finished its work on it; at once if it already has."""
        if self._response is None:
            act()
        else:
            when_closed(self._response, act)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they come. Where the upstream breaks off, an error frame is the last one of an event
        stream; in anything else an error could not be told from the content, and UpstreamFailed is raised."""
        if self._response is None or self._transport is None:
            yield self.body or b""
            return
        endpoint, idle_s = self._transport.endpoint, self._transport.limits.idle_s
        try:
            async with aclosing(blocks(self._response, idle_s=idle_s)) as parts:
                async for block in parts:
                    yield block
        except (aiohttp.ClientError, OSError) as error:
            why = failure(error, endpoint, idle_s=idle_s)
            self._transport.outcomes[(why.kind,)] += 1
            if "event-stream" not in self.content_type:
                raise UpstreamFailed(f"the upstream broke off: {why.message}", kind=why.kind) from error
            yield error_frame(f"the upstream broke off: {why.message}")
        finally:
            self.close()

    def close(self) -> None:
        """Close the upstream's connection, unless its answer has been read to the end."""
        if self._response is not None:
            self._response.close()


def error_frame(message: str, code: str | None = None) -> bytes:
    """Return the event that ends an event stream that cannot continue, wherever the stream was cut off."""
    error = {"message": message, "type": "upstream_error", "param": None, "code": code}
    return b"\n\ndata: " + orjson.dumps({"error": error}) + b"\n\n"


async def open_passage(
    transport: Transport, body: bytes | Outgoing, path: str = CHAT, *, overflow_advice: str = ""
) -> Passage:
    """Post a body to a path and return the answer, a stream of it unread.

    A prompt longer than the model's context is refused in OpenAI's words, with `overflow_advice`. Embeddings are read
    whole whatever their content type.
    Raises UpstreamProblem when no answer came, NotFound when the upstream does not have the path.
    """
    try:
        response = await transport.send("POST", transport.endpoint.at(path), body)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _unreached(error, transport) from error
    kind = response.headers.get("Content-Type", "application/octet-stream")
    headers = {name: response.headers[name] for name in _PASSED_HEADERS if name in response.headers}
    if 200 <= response.status < 300:
        if "json" not in kind and path != EMBEDDINGS:
            return Passage(response.status, kind, headers, _response=response, _transport=transport)
        whole_body = await _whole(response, transport, path)
        if _ERROR.match(whole_body):
            whole_body = _without_key(whole_body, transport.endpoint)
        if path != CHAT and _UNKNOWN_PATH.match(whole_body):
            raise _unknown_path(read_refusal(whole_body), transport.endpoint, path)
        return Passage(response.status, kind, headers, whole_body)
    if response.status < 400:
        redirect = await transport.refusal(response)
        raise UpstreamProblem(explain(redirect, **transport.endpoint.told).message, http_status=502)
    said = _without_key(await transport.error_body(response), transport.endpoint)
    return normalize_error(Passage(response.status, kind, headers, said), transport.endpoint, path, overflow_advice)


def normalize_error(passage: Passage, endpoint: Endpoint, path: str, overflow_advice: str) -> Passage:
    """Return an error answer as the client gets it: unchanged, but for what another upstream would say otherwise."""
    refusal = read_refusal(passage.body or b"", status=passage.status)
    if refusal.overflow and path in PROMPT_FIELDS and refusal.code != "context_length_exceeded":
        told = overflow_body(refusal, param=PROMPT_FIELDS[path], advice=overflow_advice)
        return Passage(400, "application/json", passage.headers, orjson.dumps(told))
    if passage.status == 404 and path != CHAT and _lacks_path(passage, refusal, path):
        raise _unknown_path(refusal, endpoint, path)
    if "json" not in passage.content_type:
        raise UpstreamProblem(explain(refusal, **endpoint.told).message, http_status=passage.status)
    return passage


def with_openai_error(passage: Passage) -> Passage:
    """Return llama.cpp's error with OpenAI's four fields, its `code` a string or null; any other passage unchanged."""
    if passage.status < 400 or passage.body is None:
        return passage
    told = orjson.loads(passage.body).get("error")
    if not isinstance(told, dict):
        return passage
    if _NO_WAY_ON in str(told.get("message")):
        message = (
            "The answer could not go on as `response_format` requires: `logit_bias` or `ignore_eos` excludes it. Leave "
            "these parameters out."
        )
        return replace(passage, status=400, body=orjson.dumps(InvalidRequest(message).body()))
    code = told.get("code")
    error = {
        "message": told.get("message"),
        "type": told.get("type"),
        "param": told.get("param"),
        "code": code if isinstance(code, str) else None,
    }
    return replace(passage, body=orjson.dumps({"error": error}))


def _lacks_path(passage: Passage, refusal: Refusal, path: str) -> bool:
    """Tell whether a 404 is about the path, and not about the model, a voice or a file that the request names."""
    if "model" in f"{refusal.code} {refusal.message}".lower():
        return False
    said = refusal.message
    return "json" not in passage.content_type or path in said or _UNKNOWN.search(said) is not None


def _unknown_path(refusal: Refusal, endpoint: Endpoint, path: str) -> NotFound:
    answered = f"{endpoint.host} (which answered 404: {refusal.message or 'no message'})"
    return not_served(path, answered)


async def _whole(response: aiohttp.ClientResponse, transport: Transport, path: str) -> bytes:
    try:
        return await whole(
            response,
            transport.endpoint,
            idle_s=transport.limits.idle_s,
            max_bytes=_MAX_EMBEDDINGS_BYTES if path == EMBEDDINGS else MAX_ANSWER_BYTES,
            outcomes=transport.outcomes,
            advice=SHORTER_ANSWERS if path in GENERATING else "Ask for less in one request.",
        )
    except UpstreamFailed as error:
        raise UpstreamProblem(error.message, http_status=504 if error.kind == "silent" else 502) from error


def _without_key(body: bytes, endpoint: Endpoint) -> bytes:
    return endpoint.redact(body.decode(errors="replace")).encode()


def _unreached(error: Exception, transport: Transport) -> UpstreamProblem:
    explained = failure(error, transport.endpoint, idle_s=transport.limits.idle_s)
    return UpstreamProblem(explained.message, http_status=504 if isinstance(error, TimeoutError) else 502)
