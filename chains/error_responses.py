"""Classifies an upstream's error: takes its HTTP status and body, returns the matching error of `wire.errors`. Pure.

Servers use different formats. The body may be `{"error": {…}}`, `{"error": "…"}`, flat (vLLM), FastAPI's `detail`, or
HTML; `code` may be a word or a number. Overflow is therefore recognized by `code`, `type` *or* wording.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import unescape
from typing import Final, TypedDict

import orjson

from chains.error_patterns import (
    CERTAINLY_ROLES,
    FINAL,
    LACKS_VISION,
    MALFORMED,
    MALFORMED_CODES,
    NOT_THE_FORM,
    NOT_THE_FORM_CODES,
    OF_THE_REQUEST,
    OVERFLOW,
    OVERFLOW_CODES,
    ROLES,
    UNREADABLE,
)
from chains.quotes import RequestText
from chains.refused_fields import OTHER_STATUSES, UNREAD, named_paths
from wire.errors import ContextOverflow, MalformedCall, PromptRefused, RateLimited, RunError, UpstreamFailed

__all__ = [
    "ErrorResponse",
    "error_response_of",
    "explain",
    "overflow_body",
    "quoted",
    "read_error_response",
    "unquoted",
]

_MAX_SHOWN: Final = 500
"""Maximum characters of an upstream's text that an error quotes."""
_LISTED_MODELS: Final = 20
_MAX_READ: Final = 8_000
"""Maximum characters of a message that are searched."""
_MAX_PATHS: Final = 50
_MAX_NODES: Final = 500
_NOT_PROSE: Final = frozenset(
    {*UNREAD, "type", "code", "status", "object", "param", "role", "id", "request_id", "loc", "path", "url", "raw"}
    | {"provider_name"}
)
"""Members of error bodies that hold no prose."""


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """A parsed upstream error: its message, and the token counts if it is a context overflow.

    `limit` is the model's whole context, `prompt_limit` the part of it that the prompt can fill, `used` the prompt's
    length. All are in tokens, None if the error does not state them.
    """

    message: str
    code: str = ""
    overflow: bool = False
    limit: int | None = None
    prompt_limit: int | None = None
    used: int | None = None
    status: int | None = None
    full: str = ""
    """The message, not shortened."""
    limit_at: tuple[int, int] | None = None
    """The position of the limit in the message; None if the limit is a separate field."""
    paths: tuple[str, ...] = ()
    """Fields of the request that the body names in members of its own (`param`, `loc`), as `messages.2.content`."""

    @property
    def malformed(self) -> bool:
        """Whether the model wrote a tool call that its own server cannot parse."""
        if self.status not in (None, 400, 422) and self.status < 500:
            return False
        if self.code in MALFORMED_CODES:
            return True
        if self.paths or OF_THE_REQUEST.search(self.message):
            return False
        if self.status == 500 and UNREADABLE.search(self.message):
            return True
        return MALFORMED.search(self.message) is not None

    @property
    def names_roles(self) -> bool:
        """Whether the error may be about the messages' roles and their order, in any wording or language."""
        return ROLES.search(f"{' '.join(self.paths)} {self.full or self.message}") is not None

    @property
    def is_about_form(self) -> bool:
        """Whether the same prompt may be accepted in another form: not if it is filtered, or the key is refused."""
        if self.lacks_vision or self.status in OTHER_STATUSES or self.code in NOT_THE_FORM_CODES:
            return False
        message = self.full or self.message
        return CERTAINLY_ROLES.search(message) is not None or NOT_THE_FORM.search(message) is None

    @property
    def lacks_vision(self) -> bool:
        """Whether the model does not support the prompt's pictures."""
        return LACKS_VISION.search(self.message) is not None

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed if it is retried."""
        if (
            self.overflow
            or self.malformed
            or self.lacks_vision
            or self.status is None
            or self.code == "insufficient_quota"
        ):
            return False
        if self.status == 501 or (self.status >= 500 and FINAL.search(self.message)):
            return False
        return self.status in (408, 409, 425, 429) or self.status >= 500


class ErrorDetails(TypedDict):
    """The `error` of OpenAI's error bodies."""

    message: str
    type: str
    param: str
    code: str


class ErrorBody(TypedDict):
    """An error in OpenAI's shape."""

    error: ErrorDetails


def read_error_response(body: bytes | Mapping[str, object], *, status: int | None = None) -> ErrorResponse:
    """Parse an error body, or an error object inside a stream, which may contain the status itself."""
    data = _decoded(body)
    error = _error_object(data)
    message = " ".join(str(error.get("message") or error.get("detail") or "").split())
    if isinstance(inner := _passed_on(error), dict):
        inner = _error_object(inner)
        message = f"{message}: {inner.get('message') or ''}"
        error = {**inner, **error, "type": inner.get("code") or inner.get("type") or error.get("type")}
    elif inner:
        message = f"{message}: {inner}"
    words = _words(data)
    full = " ".join(filter(None, [message, *(text for text in words if text not in message)]))[:_MAX_READ]
    error_response = _error_response(error, message[:_MAX_READ] or full, status)
    return replace(error_response, full=full, paths=named_paths([data, error])[:_MAX_PATHS])


def error_response_of(error: RunError) -> ErrorResponse | None:
    """Return the refusal that an error explains, None if it has another cause."""
    return error.error_response if isinstance(error.error_response, ErrorResponse) else None


def _error_response(error: dict[str, object], full: str, status: int | None) -> ErrorResponse:
    message = _one_line(full)
    codes = [str(error.get(name)) for name in ("code", "type") if error.get(name) is not None]
    if status is None:
        status = next((int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)), None)
    code = next((code for code in codes if not code.isdigit()), "")
    if error.get("failed_generation"):  # Groq returns what its model wrote, whatever code the error has
        code = "tool_use_failed"
    if status in (401, 403, 404, 429):
        return ErrorResponse(message, code=codes[0] if codes else "", status=status)
    match = next((found for pattern in OVERFLOW if (found := pattern.search(message))), None)
    if match is None and not OVERFLOW_CODES.intersection(codes):
        return ErrorResponse(message, code=code, status=status)
    captured = match.groupdict() if match else {}
    limit = _count(error.get("n_ctx")) or _count(captured.get("limit"))
    used = _count(error.get("n_prompt_tokens")) or _count(captured.get("used"))
    prompt_limit = limit - (_count(captured.get("answer")) or 0) if limit else None
    if prompt_limit is not None and prompt_limit <= 0:
        return ErrorResponse(
            message, code=code, status=status
        )  # the answer limit alone is too large: no prompt would fit
    at = match.span("limit") if match and captured.get("limit") and not error.get("n_ctx") else None
    return ErrorResponse(
        message, code=code, overflow=True, limit=limit, prompt_limit=prompt_limit, used=used, status=status, limit_at=at
    )


def unquoted(error_response: ErrorResponse, sent: RequestText) -> ErrorResponse:
    """Return the refusal without its limit if that quotes the request: such a limit is not the server's own."""
    if error_response.limit_at is None or not sent.is_quoted(error_response.message, *error_response.limit_at):
        return error_response
    return replace(error_response, limit=None, prompt_limit=None, used=None)


def overflow_body(error_response: ErrorResponse, *, param: str, advice: str = "") -> ErrorBody:
    """Return OpenAI's `context_length_exceeded` error for an overflow, whatever code the server used.

    Clients check this code to shorten their prompt. `param` is the field that holds the prompt. The message has
    OpenAI's wording if both counts are known, else the server's own, followed by `advice`.
    """
    message = f"{error_response.message}."
    if error_response.limit and error_response.used:
        answer = error_response.limit - error_response.prompt_limit if error_response.prompt_limit is not None else 0
        counted = f"your {param} resulted in {error_response.used} tokens"
        if answer:
            total = error_response.used + answer
            counted = f"you requested {total} tokens ({error_response.used} in the {param}, {answer} in the completion)"
        shorten = f"Please reduce the length of the {param}{' or completion' if answer else ''}."
        message = f"This model's maximum context length is {error_response.limit} tokens. However, {counted}. {shorten}"
    message = f"{message} {advice}".rstrip()
    return {
        "error": {
            "message": message,
            "type": "invalid_request_error",
            "param": param,
            "code": "context_length_exceeded",
        }
    }


def explain(
    error_response: ErrorResponse,
    *,
    host: str,
    model: str = "",
    listed: list[str] | None = None,
    url: str = "MODEL_URL",
    key: str = "MODEL_API_KEY",
) -> RunError:
    """Return the run error for a refusal, with advice on how to fix it.

    `listed` are the upstream's models; `url` and `key` are the settings that hold its address and key.
    """
    error = _explained(error_response, host, model, listed, url, key)
    error.quote = error_response.message
    error.error_response = error_response
    return error


def _explained(
    error_response: ErrorResponse, host: str, model: str, listed: list[str] | None, url: str, key: str
) -> RunError:
    message = error_response.message or "no message"
    status = error_response.status
    if error_response.overflow:
        return ContextOverflow(f"{host}: {message}", limit=error_response.prompt_limit, used=error_response.used)
    if error_response.lacks_vision:
        named = f"model `{model}`" if model else "the model"
        explanation = f"{host}: {named} cannot see pictures: {message}. Ask one that can, or leave the picture out."
        return PromptRefused(explanation)
    if status == 429 or "rate_limit" in error_response.code or error_response.code == "insufficient_quota":
        return RateLimited(f"{host} is limiting requests (429): {message}")
    if status in (401, 403):
        explanation = f"{host} refused the server's key ({status}): {message}. Set {key} to a valid key."
        return UpstreamFailed(explanation, kind="key_refused")
    if status == 404:
        lacks = f"does not serve model `{model}`" if model else "has nothing at this address"
        return PromptRefused(f"{host} {lacks} (404): {message}. {_advice(listed, url)}")
    if error_response.malformed:
        return MalformedCall(f"{host}: {message}", status=status)
    if status is None or status >= 500:
        spelled = f" ({status})" if status else ""
        explanation = f"{host} failed{spelled}: {message}. See the upstream's own log, then try again."
        return UpstreamFailed(explanation, status=status)
    if status < 400:
        return UpstreamFailed(f"{host} answered {status}: {message}. Check {url}.")
    return PromptRefused(f"{host} refused the request ({status}): {message}")


def _advice(listed: list[str] | None, url: str) -> str:
    if not listed:
        return f"It lists no models: check that {url} ends in `/v1`."
    names = ", ".join(f"`{name}`" for name in listed[:_LISTED_MODELS])
    more = f" and {len(listed) - _LISTED_MODELS} more" if len(listed) > _LISTED_MODELS else ""
    return f"It lists {names}{more}: use one of these, or map the name with MODEL_ALIASES."


def _decoded(body: bytes | Mapping[str, object]) -> object:
    if not isinstance(body, bytes):
        return body
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"message": _html_text(body.decode(errors="replace"))}


def _error_object(data: object) -> dict[str, object]:
    """Return the error as one flat dict, in whatever form the server sent it."""
    if isinstance(data, list) and data:  # Gemini wraps the object in a list
        data = data[0]
    if not isinstance(data, dict):
        return {"message": str(data)}
    error = data.get("error") or data
    if isinstance(error, dict):
        return error
    details = data.get("message") or data.get("detail")  # the `error` of Spring and Nest is the status in words
    more = ", ".join(map(str, details)) if isinstance(details, list) else details
    return {**data, "message": f"{error}: {more}" if more else error}


def _passed_on(error: dict[str, object]) -> object:
    """Return the error of the server behind a gateway: OpenRouter's own message is `Provider returned error`."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if not isinstance(raw, str):
        return raw
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _html_text(raw)


def _words(data: object) -> list[str]:
    """Return all prose of an error body, under any names: `errors`, `msg`, `error_msg`, `description` …"""
    words: list[str] = []
    nodes = [data]
    for node in nodes:
        if isinstance(node, str):
            words.append(" ".join(node.split()))
        elif len(nodes) < _MAX_NODES and isinstance(node, list):
            nodes += node[:_MAX_NODES]
        elif len(nodes) < _MAX_NODES and isinstance(node, dict):
            nodes += [value for name, value in node.items() if name not in _NOT_PROSE]
    return words


def _html_text(text: str) -> str:
    """Return the visible text of an HTML page."""
    if "<" not in text:
        return text
    bare: list[str] = []
    hidden = ""  # the element whose content is skipped
    first, *rest = text[:20_000].split("<")
    for part in rest:
        tag, closed, words = part.partition(">")
        name = tag.strip("/").split(maxsplit=1)[0].lower() if tag.strip("/ ") else ""
        if not closed:
            words = "" if hidden else f"<{part}"
        elif hidden:
            hidden = "" if tag.startswith("/") and name == hidden else hidden
            words = words if not hidden else ""
        elif name in ("script", "style") and not tag.startswith("/"):
            hidden, words = name, ""
        bare.append(words)
    return unescape(" ".join([first, *bare]))


def quoted(text: bytes) -> str:
    """Return the beginning of an upstream's text in quotes. Its escapes count toward the maximum length."""
    shown = text[:_MAX_SHOWN].decode(errors="replace")
    while len(quote := repr(shown)) > _MAX_SHOWN:
        shown = shown[: len(shown) * _MAX_SHOWN // len(quote)]
    return quote


def _one_line(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}…"


def _count(value: object) -> int | None:
    digits = str(value).replace(",", "") if value is not None else ""
    return int(digits) if digits.isdigit() else None
