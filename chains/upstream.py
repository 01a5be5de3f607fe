"""An upstream, which is any OpenAI-compatible server: its models, its answers, and whether it is available.

It is the server at MODEL_URL or a named upstream. Invariants: a model's name never sends a request to another host;
clients' own keys are never sent.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import aiohttp
import orjson
from langchain_core.messages import BaseMessage

from chains.blocks import read_all
from chains.chat_types import ModelEntry
from chains.context_window import ContextWindows
from chains.endpoint import Endpoint, parse_endpoint
from chains.error_responses import ErrorResponse, explain
from chains.forwarding import CHAT, GENERATING, Body, model_of, with_model
from chains.model_facts import ModelFacts
from chains.models import Models
from chains.negotiation import Known, Negotiation
from chains.read_batching import LoopLag
from chains.request_body import encode_request
from chains.retries import Retries
from chains.tokens import Calibration
from chains.transport import DEFAULT_LIMITS, CallLimits, Transport, failure
from chains.upstream_response import UpstreamResponse, normalize_error, open_upstream_response
from fairness.fair_limits import ANSWERS
from telemetry.context import current_owner
from telemetry.metrics import Counts
from telemetry.version import installed_version
from wire.errors import (
    InvalidRequest,
    PromptRefused,
    RateLimited,
    RunError,
    Unavailable,
    UpstreamFailed,
    UpstreamProblem,
)

__all__ = ["UNSET", "Upstream"]

T = TypeVar("T")

UNSET: Final = "No model is set. Set MODEL_URL to an OpenAI-compatible server, such as http://127.0.0.1:8080/v1."
_LISTING_S: Final = 5.0
_LATE_S: Final = 1.0
"""Added to the silence limit, so that silence is reported with its own message."""
_CHECKED_S: Final = 1.0
"""Maximum age of a listing that proves that the upstream is available."""
_REPLY_LIMITS: Final = ("max_tokens", "max_completion_tokens", "n_predict")
_MAX_LISTING_BYTES: Final = 4 * 1024 * 1024
_MAX_EMBEDDINGS_BYTES: Final = 64 * 1024 * 1024


class Upstream:
    """One upstream. `open` before use, `close` after; both can be called without a MODEL_URL."""

    def __init__(
        self,
        url: str | None,
        *,
        api_key: str | None = None,
        aliases: Mapping[str, str] | None = None,
        default_model: str = "",
        user_agent: str | None = None,
        limits: CallLimits = DEFAULT_LIMITS,
        max_reply_tokens: int | None = None,
        name: str = "",
        outcomes: Counts | None = None,
    ) -> None:
        """Connects to nothing. `name` is that of `[upstreams.NAME]`; `max_reply_tokens` limits answers that the client
        does not limit; `outcomes` counts the requests.

        Raises ThreadholdError if the URL is invalid.
        """
        self.limits = limits
        self.endpoint: Endpoint | None = parse_endpoint(url, api_key, upstream=name) if url else None
        self.outcomes = Counts() if outcomes is None else outcomes
        """Counts of requests by outcome; see `Transport`."""
        self.overflow_advice = ""
        """Advice, other than shortening, in the refusal of a prompt that is too long."""
        self.loop_lag = LoopLag()
        self.calibration = Calibration()
        self._max_reply_tokens = max_reply_tokens
        self.reasoning_models: ModelFacts[bool] = ModelFacts()
        """Models whose answers begin with reasoning without an opening tag."""
        self._refused: Known = ModelFacts()
        self._models = Models(self._fetch_models, aliases=aliases or {}, default=default_model)
        self._windows = ContextWindows(lambda: self._transport, self._models)
        self._transport: Transport | None = None
        if self.endpoint is not None:
            agent = user_agent or f"threadhold/{installed_version()}"
            self._transport = Transport(self.endpoint, user_agent=agent, limits=self.limits, outcomes=self.outcomes)

    async def open(self) -> None:
        """Make the connection pool, without connecting."""
        if self._transport is not None:
            await self._transport.open()

    async def close(self) -> None:
        """Stop running requests for models and context limits, and close every connection."""
        try:
            await self._windows.close()
            await self._models.close()
        finally:
            if self._transport is not None:
                await self._transport.close()

    async def resolve(self, model: str) -> str:
        """Return the model's name at the upstream; see `Models.resolve`. Raises RunError."""
        self.require_transport()
        return await self._models.resolve(model)

    async def models(self) -> list[ModelEntry]:
        """Return the raw `/models` entries, for `GET /models`. Raises Unavailable or UpstreamProblem."""
        if self._transport is None:
            raise Unavailable(UNSET)
        try:
            return await self._models.listing()
        except RunError as error:
            raise UpstreamProblem(error.message, http_status=502) from error

    async def check(self) -> str | None:
        """Return None if the upstream answers, else the reason in a sentence."""
        try:
            self.require_transport()
            await self._models.listing(max_age_s=_CHECKED_S)
        except PromptRefused:
            return None  # it answers, but has no `/models`
        except RunError as error:
            return error.message
        return None

    @property
    def has_listed(self) -> bool:
        """Whether `names` is already complete; see `wait_for_listing`."""
        return self._transport is None or self._models.has_listed

    async def wait_for_listing(self) -> None:
        """Wait, once and for a limited time, for the first listing. A listing that fails raises nothing."""
        if self._transport is not None:
            await self._models.wait_for_listing()

    def names(self) -> list[str]:
        """Return the ids last listed, without waiting."""
        return self._models.names()

    async def props(self, model: str) -> dict[str, object] | None:
        """Return llama.cpp's `/props` for a model, None from any other server. Waits at most `_LISTING_S`."""
        if self._transport is None:
            return None
        try:
            async with asyncio.timeout(_LISTING_S):
                response = await self._transport.send("GET", self._transport.endpoint.props(model), is_probe=True)
                if response.status != 200:
                    response.close()
                    return None
                props = orjson.loads(await self._whole(response, _LISTING_S, _MAX_LISTING_BYTES))
        except (aiohttp.ClientError, TimeoutError, OSError, RunError, orjson.JSONDecodeError):
            return None
        return props if isinstance(props, dict) else None

    def reply_limit(self, model: str) -> int | None:  # noqa: ARG002 - the built-in engine's depends on the model
        """Return how many tokens a model's answer can have if its request sets no limit; None if there is no limit."""
        return self._max_reply_tokens

    def context_limit(self, model: str) -> int | None:
        """Return the model's context length in tokens if it is known, without waiting: from a refusal, else from the
        engine, else from its listing."""
        known = self._models.known_as(model)
        return (
            self._models.learned_limit(known)
            or (self._windows.limit(known) if known else None)
            or self._models.context_limit(known)
        )

    async def ask_limit(self, model: str) -> int | None:
        """Return `context_limit`, after asking the engine, for a limited time, if it has not been asked yet."""
        known = self._models.known_as(model)
        if known and self._models.learned_limit(known) is None:
            await self._windows.ask(known)
        return self.context_limit(model)

    async def count_tokens(
        self, model: str, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, object]]
    ) -> int | None:
        """Return how many tokens a prompt has, None if the engine does not report it."""
        return await self._windows.count(self._models.known_as(model), messages, tools)

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context limit, in tokens, that a refusal stated."""
        self._models.learn_limit(self._models.known_as(model), limit)

    def note_reasoning(self, model: str, *, begins: bool) -> None:
        """Remember whether a model's answers begin with reasoning."""
        if begins:
            self.reasoning_models[model] = True
        else:
            self.reasoning_models.forget(model)

    def negotiation(self, model: str) -> Negotiation:
        """Return the negotiation of a new request for this model."""
        return Negotiation(self._refused, model)

    async def answer(
        self, payload: Mapping[str, object], negotiation: Negotiation, retries: Retries
    ) -> aiohttp.ClientResponse:
        """Post a completion, with the retries that the call has left; return the 2xx answer unread. Raises RunError.

        A request that is refused because of one of its fields is sent again without the field; see `Negotiation`.
        """
        model = str(payload.get("model", ""))
        body = self._dialect(payload)
        while True:
            sent = await encode_request(negotiation.applied(body))
            answer = await self.require_transport().post(sent, retries=retries)
            if not isinstance(answer, ErrorResponse):
                return answer
            if not await negotiation.drop_refused(answer):
                raise await self._explained(await negotiation.error_to_report(answer), model)

    async def embed(self, model: str, texts: Sequence[str], read: Callable[[bytes], T]) -> T:
        """Post to `/embeddings` with retries, and return what `read` makes of the answer's body, in a thread. Raises
        RunError; a ValueError of `read` is reported as an answer that is not JSON."""
        transport = self.require_transport()
        body = await encode_request({"model": model, "input": list(texts), "encoding_format": "float"})
        answer = await transport.post(body, transport.endpoint.embeddings)
        if isinstance(answer, ErrorResponse):
            raise await self._explained(answer, model)
        host, limit_s = transport.endpoint.host, self.limits.idle_s
        try:
            # The model's work is done when the head arrives: the silence limit alone would let a body arrive slowly for
            # hours.
            async with asyncio.timeout(limit_s + _LATE_S):
                answered = await self._whole(answer, limit_s, _MAX_EMBEDDINGS_BYTES)
            return await ANSWERS.run(current_owner(), read, answered)
        except ValueError as error:
            raise UpstreamFailed(f"{host} did not answer `/embeddings` with JSON.") from error
        except TimeoutError as error:
            raise self._late("send its vectors", limit_s) from error

    async def pass_through(self, body: Body, path: str = CHAT) -> UpstreamResponse:
        """Forward a client's request and return the answer, including errors of the upstream.

        Requests are not retried: the client has its own retries. Cancelling the call closes the upstream's connection.
        Raises Unavailable, InvalidRequest, UpstreamProblem, NotFound.
        """
        if self._transport is None:
            raise Unavailable(UNSET)
        model = model_of(body)
        try:
            named = with_model(body, await self.resolve(model) if model or path in GENERATING else "")
            encoded = (
                await encode_request(self._limited(named, path))
                if isinstance(named, dict)
                else named.encode(named.model)
            )
        except PromptRefused as error:
            raise InvalidRequest(error.message) from error
        except RunError as error:
            raise UpstreamProblem(error.message, http_status=502) from error
        return await open_upstream_response(self._transport, encoded, path, overflow_advice=self.overflow_advice)

    def normalize_error(self, refused: UpstreamResponse, path: str) -> UpstreamResponse:
        """Return an error from within a stream as one from before it. Raises NotFound, UpstreamProblem."""
        assert self.endpoint is not None
        return normalize_error(refused, self.endpoint, path, self.overflow_advice)

    def _limited(self, body: dict[str, object], path: str) -> dict[str, object]:
        """Return the body with a limit of the answer if the client set none."""
        if path not in GENERATING:
            return body
        payload = dict(body)
        if payload.get("max_tokens") == -1:
            del payload["max_tokens"]
        if self._max_reply_tokens and not any(payload.get(name) for name in _REPLY_LIMITS):
            payload["max_tokens"] = self._max_reply_tokens
        return payload

    async def _explained(self, error_response: ErrorResponse, model: str) -> RunError:
        """Return the run error for a refusal; fetches the listing if the error names the models."""
        listed: list[str] | None = None
        if error_response.overflow and error_response.limit:
            self.learn_limit(model, error_response.limit)
        if error_response.status == 404:
            try:
                listed = [entry["id"] for entry in await self._models.listing()]
            except RunError:
                listed = self._models.names()
        return explain(error_response, **self.require_transport().endpoint.named, model=model, listed=listed)

    async def _fetch_models(self) -> list[ModelEntry]:
        transport = self.require_transport()
        try:
            async with asyncio.timeout(_LISTING_S):
                response = await transport.send("GET", transport.endpoint.models)
                if response.status != 200:
                    error_response = await transport.error_response(response)
                    error = explain(error_response, **transport.endpoint.named)
                    raise error if not isinstance(error, RateLimited) else UpstreamFailed(error.message)
                body = await self._whole(response, _LISTING_S, _MAX_LISTING_BYTES)
        except (aiohttp.ClientError, OSError) as error:
            if type(error) is TimeoutError:
                raise self._late("list its models", _LISTING_S) from error
            raise failure(error, transport.endpoint, idle_s=min(self.limits.idle_s, _LISTING_S)) from error
        return _entries(body, transport.endpoint)

    async def _whole(self, response: aiohttp.ClientResponse, idle_s: float, max_bytes: int) -> bytes:
        endpoint = self.require_transport().endpoint
        idle_s = min(self.limits.idle_s, idle_s)
        return await read_all(response, endpoint, idle_s=idle_s, max_bytes=max_bytes, outcomes=self.outcomes)

    def _late(self, what: str, limit_s: float) -> UpstreamFailed:
        """Return the error for an answer that did not arrive in time, its head or its body."""
        self.outcomes["silent",] += 1
        host = self.require_transport().endpoint.host
        return UpstreamFailed(f"{host} did not {what} within {limit_s:g} s. See its log.", kind="silent")

    def require_transport(self) -> Transport:
        """Return the transport to the upstream. Raises UpstreamFailed if MODEL_URL is not set."""
        if self._transport is None:
            raise UpstreamFailed(UNSET)
        return self._transport

    def _dialect(self, payload: Mapping[str, object]) -> dict[str, object]:
        """Return the payload without unset fields, and with the host's name for the answer's limit."""
        kept = {name: value for name, value in payload.items() if value is not None}
        limit = kept.pop("max_completion_tokens", None) or kept.pop("max_tokens", None) or self._max_reply_tokens
        kept.pop("max_tokens", None)
        if isinstance(limit, int) and limit > 0:
            is_openai = self.endpoint is not None and self.endpoint.is_openai
            kept["max_completion_tokens" if is_openai else "max_tokens"] = limit
        return kept


def _entries(body: bytes, endpoint: Endpoint) -> list[ModelEntry]:
    """Return the entries with an id, from any of the forms in use: `{"data": […]}`, `{"models": […]}`, a bare list."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"{endpoint.host} did not answer `/models` with JSON. Check {endpoint.setting}."
        raise UpstreamFailed(message) from error
    if isinstance(data, dict):
        data = data.get("data") or data.get("models")
    entries = [entry for entry in data or () if isinstance(entry, dict)] if isinstance(data, list) else []
    named: list[Any] = [{"id": entry.get("id") or entry.get("name"), **entry} for entry in entries]
    return [entry for entry in named if isinstance(entry["id"], str)]  # unknown members stay: no TypedDict has them
