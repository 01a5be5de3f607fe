"""The pass-through: an upstream's answer to a client's own request, such as `/chat/completions`, as it arrives.

Status, content type and JSON bodies pass unchanged, errors too, except that our key is redacted. The caller that gets a
UpstreamResponse closes it. Closing it, or its iterator, before the end closes the upstream's connection.
"""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

import aiohttp
import orjson

from chains.blocks import MAX_ANSWER_BYTES, SHORTER_ANSWERS, blocks, read_all, when_closed
from chains.endpoint import Endpoint
from chains.error_responses import ErrorResponse, explain, overflow_body, read_error_response
from chains.forwarding import CHAT, EMBEDDINGS, GENERATING, PROMPT_FIELDS, Outgoing, not_served
from chains.redaction import BlockRedactor, redact, redact_bytes
from chains.response_slots import ResponseSlot
from chains.transport import Transport, failure
from wire.errors import InvalidRequest, NotFound, UpstreamFailed, UpstreamProblem

__all__ = ["UpstreamResponse", "error_frame", "normalize_error", "open_upstream_response", "with_openai_error"]

_PASSED_HEADERS: Final = ("Retry-After", "retry-after-ms")
"""Without `x-request-id`: the response has ours, which is the request's id in the log."""

_SENDABLE: Final = re.compile(r"[\t -~]+")
"""Header values that every HTTP library sends and reads in the same way."""

_MAX_STATUS: Final = 599
"""Higher statuses are invalid (RFC 9110, section 15)."""

_MAX_EMBEDDINGS_BYTES: Final = 256 * 1024 * 1024
"""Enough for 2,048 vectors of 3,072 numbers with 20 digits each."""
_UNKNOWN_PATH: Final = re.compile(rb'\s*\{\s*"error"\s*:\s*"Unexpected endpoint')
"""LM Studio's answer to an unknown path; its status is 200."""

_GRAMMAR_EXHAUSTED: Final = "empty grammar stack"
_UNKNOWN: Final = re.compile(
    r"^\W*(?:404\W*)?(?:(?:page|file|resource) )?(?:not found)?\W*$|\brequested ur[li]\b|\b(?:route|endpoint)s?\b",
    re.IGNORECASE,
)
"""Messages of a 404 for an unknown path that do not quote the path. Any other 404 is about a name in the request."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class UpstreamResponse:
    """An upstream's answer: complete in `body`, or, if that is None, a stream read through `blocks()`."""

    status: int
    content_type: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    _response: aiohttp.ClientResponse | None = None
    _transport: Transport | None = None
    _slot: ResponseSlot | None = None

    @property
    def closed(self) -> bool:
        """Whether the upstream has finished its work on this answer."""
        return self._response is None or self._response.closed

    @property
    def broke(self) -> bool:
        """Whether the connection broke before the answer's end."""
        return self._response is not None and self._response.content.exception() is not None

    def when_closed(self, act: Callable[[], None]) -> None:
        """Call `act` when the upstream has finished its work on this answer, immediately if it already has."""
        if self._response is None:
            act()
        else:
            when_closed(self._response, act)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they arrive.

        If the upstream breaks off, an event stream ends with an error frame. In other content types an error could not
        be distinguished from the content.

        Raises:
            UpstreamFailed: if an answer that is not an event stream breaks off.
        """
        if self._response is None or self._transport is None:
            yield self.body or b""
            return
        endpoint, idle_s = self._transport.endpoint, self._transport.limits.idle_s
        try:
            redactor = BlockRedactor(endpoint.secrets)
            async with aclosing(blocks(self._response, idle_s=idle_s)) as parts:
                async for block in parts:
                    if clean := redactor.feed(block):
                        yield clean
            if rest := redactor.end():
                yield rest
        except (aiohttp.ClientError, OSError) as error:
            explained = failure(error, endpoint, idle_s=idle_s)
            self._transport.outcomes[(explained.kind,)] += 1
            if "event-stream" not in self.content_type:
                raise UpstreamFailed(f"the upstream broke off: {explained.message}", kind=explained.kind) from error
            yield error_frame(f"the upstream broke off: {explained.message}")
        finally:
            self.close()

    def close(self) -> None:
        """Close the upstream's connection, unless the answer was read to its end, and release the answer's slot."""
        if self._slot is not None:
            self._slot.release()
        if self._response is not None:
            self._response.close()


def error_frame(message: str, code: str | None = None) -> bytes:
    """Return the event that ends an event stream that cannot continue, wherever the stream was cut off."""
    error = {"message": message, "type": "upstream_error", "param": None, "code": code}
    return b"\n\ndata: " + orjson.dumps({"error": error}) + b"\n\n"


async def open_upstream_response(
    transport: Transport, body: bytes | Outgoing, path: str = CHAT, *, overflow_advice: str = ""
) -> UpstreamResponse:
    """Post a body to a path and return the answer; a stream's body is not read yet.

    The refusal of a prompt longer than the model's context gets OpenAI's wording and `overflow_advice`. Embeddings are
    read completely, whatever their content type.

    Raises:
        UpstreamProblem: if there is no answer, or it cannot be passed on.
        NotFound: if the upstream does not have the path.
    """
    try:
        response = await transport.send("POST", transport.endpoint.at(path), body)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _unreached(error, transport) from error
    secrets = transport.endpoint.secrets
    kind = _header(response, "Content-Type", secrets) or "application/octet-stream"
    headers = {name: value for name in _PASSED_HEADERS if (value := _header(response, name, secrets)) is not None}
    if 200 <= response.status < 300:
        if "json" not in kind and path != EMBEDDINGS:
            return UpstreamResponse(response.status, kind, headers, _response=response, _transport=transport)
        slot = ResponseSlot()
        whole_body = redact_bytes(await _whole(response, transport, path, slot), secrets)
        if path != CHAT and _UNKNOWN_PATH.match(whole_body):
            raise _unknown_path(read_error_response(whole_body), transport.endpoint, path)
        return UpstreamResponse(response.status, kind, headers, whole_body, _slot=slot)
    if response.status < 400:
        redirect = await transport.error_response(response)
        raise UpstreamProblem(explain(redirect, **transport.endpoint.named).message, http_status=502)
    redacted = redact((await transport.error_body(response)).decode(errors="replace"), secrets).encode()
    status = response.status if response.status <= _MAX_STATUS else 502
    return normalize_error(UpstreamResponse(status, kind, headers, redacted), transport.endpoint, path, overflow_advice)


def _header(response: aiohttp.ClientResponse, name: str, secrets: Sequence[str]) -> str | None:
    """Return a header's value without our key; None if it is absent or contains characters that we cannot send."""
    value = response.headers.get(name)
    return redact(value, secrets) if value is not None and _SENDABLE.fullmatch(value) else None


def normalize_error(answer: UpstreamResponse, endpoint: Endpoint, path: str, overflow_advice: str) -> UpstreamResponse:
    """Return an error answer as the client gets it: unchanged, except where upstreams differ.

    A context overflow becomes OpenAI's `context_length_exceeded`.

    Raises:
        NotFound: if the upstream does not have the path.
        UpstreamProblem: if the error is not JSON.
    """
    error_response = read_error_response(answer.body or b"", status=answer.status)
    if error_response.overflow and path in PROMPT_FIELDS and error_response.code != "context_length_exceeded":
        replacement = overflow_body(error_response, param=PROMPT_FIELDS[path], advice=overflow_advice)
        return UpstreamResponse(400, "application/json", answer.headers, orjson.dumps(replacement))
    if answer.status == 404 and path != CHAT and _lacks_path(answer, error_response, path):
        raise _unknown_path(error_response, endpoint, path)
    if "json" not in answer.content_type:
        raise UpstreamProblem(explain(error_response, **endpoint.named).message, http_status=answer.status)
    return answer


def with_openai_error(answer: UpstreamResponse) -> UpstreamResponse:
    """Return llama.cpp's error with OpenAI's four fields and a `code` that is a string or null; others unchanged."""
    if answer.status < 400 or answer.body is None:
        return answer
    original = orjson.loads(answer.body).get("error")
    if not isinstance(original, dict):
        return answer
    if _GRAMMAR_EXHAUSTED in str(original.get("message")):
        message = (
            "The answer cannot continue as `response_format` requires, because `logit_bias` or `ignore_eos` excludes "
            "it. Omit these parameters."
        )
        return replace(answer, status=400, body=orjson.dumps(InvalidRequest(message).body()))
    code = original.get("code")
    error = {
        "message": original.get("message"),
        "type": original.get("type"),
        "param": original.get("param"),
        "code": code if isinstance(code, str) else None,
    }
    return replace(answer, body=orjson.dumps({"error": error}))


def _lacks_path(answer: UpstreamResponse, error_response: ErrorResponse, path: str) -> bool:
    """Return whether a 404 is about the path, not about the model, a voice or a file that the request names."""
    if "model" in f"{error_response.code} {error_response.message}".lower():
        return False
    message = error_response.message
    return "json" not in answer.content_type or path in message or _UNKNOWN.search(message) is not None


def _unknown_path(error_response: ErrorResponse, endpoint: Endpoint, path: str) -> NotFound:
    responder = f"{endpoint.host} (which answered 404: {error_response.message or 'no message'})"
    return not_served(path, responder)


async def _whole(response: aiohttp.ClientResponse, transport: Transport, path: str, slot: ResponseSlot) -> bytes:
    try:
        return await read_all(
            response,
            transport.endpoint,
            idle_s=transport.limits.idle_s,
            max_bytes=_MAX_EMBEDDINGS_BYTES if path == EMBEDDINGS else MAX_ANSWER_BYTES,
            outcomes=transport.outcomes,
            advice=SHORTER_ANSWERS if path in GENERATING else "Ask for less in one request.",
            slot=slot,
        )
    except BaseException as error:
        slot.release()
        if isinstance(error, UpstreamFailed):
            raise UpstreamProblem(error.message, http_status=504 if error.kind == "silent" else 502) from error
        raise


def _unreached(error: Exception, transport: Transport) -> UpstreamProblem:
    explained = failure(error, transport.endpoint, idle_s=transport.limits.idle_s)
    return UpstreamProblem(explained.message, http_status=504 if isinstance(error, TimeoutError) else 502)
