"""Every error that the project raises on purpose, in one tree. Lower packages raise them. Only `api/problems.py` turns
them into HTTP responses (`api/connection_limit.py`, `api/connection.py` and `api/serving.py` do so for requests that
never reach the app), and only `graphs/run_stops.py` into a run's `last_error`.

    ThreadholdError
    ├── Problem                     the answer to a request
    │   ├── InvalidRequest          400: the request is invalid; `code` and `param` say where
    │   ├── Unauthorized            401: no key, or an incorrect one
    │   ├── Forbidden               403: a host or origin that is not allowed, or a missing scope
    │   ├── NotFound                404: no such object for this owner
    │   ├── TooLarge                413: a body over the limit
    │   ├── UnsupportedMedia        415: a body that is not JSON
    │   ├── TooManyRequests         429: a limit of ours; carries Retry-After
    │   │   └── KeyLimitReached     a stored key has used its requests or tokens per minute
    │   ├── UpstreamProblem         an upstream's answer to a passed-through request: its own status and body
    │   ├── Unavailable             503: shutting down, no upstream set, or the store cannot write now
    │   └── InsufficientStorage     507: the server's disk is full
    ├── InvalidSetting              a setting that cannot be used; nothing is served
    ├── StoreError                  a commit that the store refused; none of its changes was kept
    │   ├── MissingRow              a row that a change names does not exist (for this owner)
    │   ├── ThreadBusy              the thread has an active run
    │   ├── StaleRow                the row is not as it was read; read it again
    │   │   └── StaleThread         the thread's newest message is not the one that was read
    │   ├── HeldByOther             another process works on the row
    │   ├── StatusConflict          the row's status does not allow the change
    │   ├── ReserveReached          the remaining disk space is reserved for deletions and rows
    │   └── StoreFailed             the store itself failed: I/O error, read-only, closed, in use by another process
    │       ├── StoreFull           no space on the disk
    │       ├── StoreLocked         another program holds a lock on the database
    │       └── LeaseLost           this process was declared dead
    ├── EmbeddingFailed             texts could not be embedded; a search continues with words
    ├── BudgetExceeded              work in a child process that exceeded its budget or could not be done
    ├── UnreadableFile              a file that cannot be indexed; becomes that file's `last_error`
    └── RunError                    a run cannot continue; becomes `last_error`
        ├── RateLimited             upstream answered 429 after all retries    → rate_limit_exceeded
        ├── PromptRefused           upstream refused the request               → invalid_prompt
        ├── ContextOverflow         the prompt is longer than the model's context → invalid_prompt
        └── UpstreamFailed          no connection, 5xx, time-out, broken stream → server_error
            └── MalformedCall       the upstream could not parse its own model's function call
"""

from typing import ClassVar, Final, Literal

from wire.json import JsonObject

__all__ = [
    "BudgetExceeded",
    "ContextOverflow",
    "EmbeddingFailed",
    "Forbidden",
    "HeldByOther",
    "InsufficientStorage",
    "InvalidRequest",
    "InvalidSetting",
    "KeyLimitReached",
    "LeaseLost",
    "MalformedCall",
    "MissingRow",
    "NotFound",
    "Problem",
    "PromptRefused",
    "RateLimited",
    "ReserveReached",
    "RunError",
    "StaleRow",
    "StaleThread",
    "StatusConflict",
    "StoreError",
    "StoreFailed",
    "StoreFull",
    "StoreLocked",
    "ThreadBusy",
    "ThreadholdError",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnreadableFile",
    "UnsupportedMedia",
    "UpstreamFailed",
    "UpstreamProblem",
]


_MAX_MESSAGE: Final = 2_000  # characters
_MAX_PARAM: Final = 500


class ThreadholdError(Exception):
    """Root of the tree; `message` is a sentence for the user."""

    quote: str = ""
    """The part of the message that comes from elsewhere, such as an upstream. It can repeat what users wrote."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def plain(self) -> str:
        """The message without `quote`, for the log."""
        return self.message.replace(self.quote, "…") if self.quote else self.message


class Problem(ThreadholdError):
    """The answer to a request: an HTTP status and OpenAI's four error fields."""

    status: ClassVar[int] = 400
    type: ClassVar[str] = "invalid_request_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code if code is not None else type(self).code
        self.headers = headers or {}

    def body(self) -> JsonObject:
        """Return the wire shape, `{"error": {message, type, param, code}}`, always with all four keys.

        `message` and `param` can quote what a client sent; long ones are truncated.
        """
        message = self.message if len(self.message) <= _MAX_MESSAGE else f"{self.message[:_MAX_MESSAGE]}…"
        param = self.param
        if param is not None and len(param) > _MAX_PARAM:
            param = f"{param[:_MAX_PARAM]}…"
        return {"error": {"message": message, "type": self.type, "param": param, "code": self.code}}


class InvalidRequest(Problem):
    """The request is invalid: a bad value, an unknown field, or a state that does not allow it."""


class Unauthorized(Problem):
    """No API key, or one that is unknown, revoked or expired."""

    status = 401
    code = "invalid_api_key"


class Forbidden(Problem):
    """The `Host` or `Origin` is not allowed, or the key lacks a scope."""

    status = 403
    code = "forbidden"


class NotFound(Problem):
    """No such object for this owner; another owner's object looks the same."""

    status = 404


class TooLarge(Problem):
    """The body is longer than `MAX_BODY_BYTES`."""

    status = 413
    code = "request_too_large"


class UnsupportedMedia(Problem):
    """The body is neither empty nor JSON."""

    status = 415
    code = "unsupported_media_type"


class TooManyRequests(Problem):
    """A limit of this server is reached; `headers` carries `Retry-After` in seconds."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class KeyLimitReached(TooManyRequests):
    """A stored key has used its `requests` or `tokens` per minute. The error's `type` says which, as OpenAI's does."""

    def __init__(self, message: str, *, limited: Literal["requests", "tokens"], headers: dict[str, str]) -> None:
        super().__init__(message, headers=headers)
        self.limited = limited

    def body(self) -> JsonObject:
        """Return the wire shape."""
        body = super().body()
        error = body["error"]
        assert isinstance(error, dict), "the error of a problem is an object"
        error["type"] = self.limited
        return body


class UpstreamProblem(Problem):
    """The upstream's own answer to a passed-through request: its status and, if it is JSON, its body."""

    type = "upstream_error"

    def __init__(self, message: str, *, http_status: int, upstream_body: JsonObject | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.upstream_body = upstream_body


class Unavailable(Problem):
    """The server is shutting down, no upstream is set, or the store cannot write; `headers` can carry `Retry-After`."""

    status = 503
    type = "server_error"
    code = "unavailable"


class InsufficientStorage(Problem):
    """The server's disk is full."""

    status = 507
    type = "server_error"
    code = "insufficient_storage"


class InvalidSetting(ThreadholdError):
    """A setting or a settings file is invalid. The message has a line for each fault."""


class StoreError(ThreadholdError):
    """The store refused a commit; none of its changes was kept."""


class MissingRow(StoreError):
    """A change names a row that does not exist or belongs to another owner."""

    def __init__(self, kind: str, id: str) -> None:
        if kind == "file":
            message = f"No such File object: {id}"
        else:
            message = f"No {kind.replace('_', ' ')} found with id '{id}'."
        super().__init__(message)
        self.kind = kind
        self.id = id


class ThreadBusy(StoreError):
    """The thread has an active run, so it accepts neither messages nor another run."""

    def __init__(self, thread_id: str, run_id: str) -> None:
        super().__init__(f"Thread {thread_id} already has an active run {run_id}.")
        self.thread_id = thread_id
        self.run_id = run_id


class StaleRow(StoreError):
    """Compare-and-set failed: the row is not as it was read."""


class HeldByOther(StoreError):
    """Another live process works on the row."""

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"Another process works on the {kind.replace('_', ' ')} '{id}'.")


class StaleThread(StaleRow):
    """The thread's newest message is not the one that the change was prepared for."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(f"The thread '{thread_id}' has changed since it was read.")
        self.thread_id = thread_id


class StatusConflict(StoreError):
    """Compare-and-set failed: the row's status is `status`, which does not allow the change."""

    def __init__(self, kind: str, id: str, status: str) -> None:
        super().__init__(f"The {kind} '{id}' has status '{status}'.")
        self.kind = kind
        self.id = id
        self.status = status


class StoreFailed(StoreError):
    """The store itself failed: I/O error, read-only file, closed, in use by another process. A retry can succeed."""


class StoreFull(StoreFailed):
    """The disk is full."""


class ReserveReached(StoreError):
    """The remaining disk space is reserved for data other than uploads; the message is for clients."""


class StoreLocked(StoreFailed):
    """Another program holds a lock on the database, and did not release it in time."""


class LeaseLost(StoreFailed):
    """This process was declared dead, so other processes can have taken its work; it registers again soon."""

    def __init__(self) -> None:
        super().__init__("This process was declared dead and is registering again. Try again in a moment.")


class EmbeddingFailed(ThreadholdError):
    """Texts could not be embedded: no model, no connection, a refusal, or an invalid answer."""


class UnreadableFile(ThreadholdError):
    """A file cannot be indexed; `code` is one of OpenAI's three codes."""

    def __init__(self, message: str, *, code: Literal["unsupported_file", "invalid_file", "server_error"]) -> None:
        super().__init__(message)
        self.code = code


class BudgetExceeded(ThreadholdError):
    """Work on untrusted input exceeded its budget.

    `why`: it used up its `time` or `memory`, its `size` is too large for an attempt, it crashed its process (`crash`),
    or no process was free in time (`late`), which says nothing about the input.
    """

    def __init__(self, message: str, *, why: Literal["time", "memory", "size", "crash", "late"]) -> None:
        super().__init__(message)
        self.why = why

    @property
    def clause(self) -> str:
        """The message as the end of another sentence."""
        return self.message[:1].lower() + self.message[1:].rstrip(".")


class RunError(ThreadholdError):
    """A run cannot continue. `code` is one of OpenAI's three: server_error, rate_limit_exceeded, invalid_prompt. `kind`
    is our own, more precise term."""

    code: ClassVar[Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]] = "server_error"
    kind: str = "failed"
    error_response: object = None
    """The upstream's answer that caused the error, as `chains.error_responses` parsed it."""


class RateLimited(RunError):
    """The upstream answered 429, even after the retries."""

    code = "rate_limit_exceeded"
    kind = "rate_limited"


class PromptRefused(RunError):
    """The upstream refused the request itself (4xx): wrong model, wrong key, wrong content."""

    code = "invalid_prompt"
    kind = "refused"


class ContextOverflow(RunError):
    """The prompt is longer than the model's context; `limit` and `used` are tokens, or None if unknown."""

    code = "invalid_prompt"
    kind = "context_overflow"

    def __init__(self, message: str, *, limit: int | None = None, used: int | None = None) -> None:
        super().__init__(message)
        self.limit = limit
        self.used = used


class UpstreamFailed(RunError):
    """No connection, a 5xx after the retries, a time-out, or stream data that cannot be used.

    `status` is the HTTP status where there was one; `kind` is failed, unreachable, silent, tls, proxy, broke_off,
    key_refused or garbage.
    """

    def __init__(self, message: str, *, status: int | None = None, kind: str = "failed", quote: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.quote = quote


class MalformedCall(UpstreamFailed):
    """The upstream could not parse a tool call of its own model."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message, status=status, kind="malformed_call")
