"""The upstream: any OpenAI-compatible server at MODEL_URL. What it lists, what it answers, whether it is there.

Nothing is ever sent to another host because of a model's name, and the clients' own keys are never sent at all.
"""

import asyncio
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import aiohttp
import orjson

from chains.endpoint import Endpoint, parse_endpoint
from chains.models import Models
from chains.passage import Passage, open_passage
from chains.refusals import Refusal, explain
from chains.tokens import Calibration
from chains.transport import Patience, Transport, failure
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

UNSET: Final = "No model is set. Set MODEL_URL to an OpenAI-compatible server, such as http://127.0.0.1:8080/v1."
_LISTING_S: Final = 5.0
_MAX_LISTING_BYTES: Final = 16 * 1024 * 1024
_MAX_EMBEDDINGS_BYTES: Final = 64 * 1024 * 1024


class Upstream:
    """One upstream. `open` before use, `close` after; both may be called without a MODEL_URL."""

    def __init__(
        self,
        url: str | None,
        *,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        aliases: Mapping[str, str] | None = None,
        default_model: str = "",
        user_agent: str | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Connects nowhere. `patience` outranks `timeout_s` (silence, in seconds).

        Raises ThreadholdError for a URL that is none.
        """
        self.patience = patience or Patience(idle_s=timeout_s, connect_s=min(10.0, timeout_s))
        self.endpoint: Endpoint | None = parse_endpoint(url, api_key) if url else None
        self.calibration = Calibration()
        self._models = Models(self._fetch_models, aliases=aliases or {}, default=default_model)
        self._transport: Transport | None = None
        if self.endpoint is not None:
            agent = user_agent or f"threadhold/{_version()}"
            self._transport = Transport(self.endpoint, user_agent=agent, patience=self.patience)

    async def open(self) -> None:
        """Make the connection pool; connects nowhere yet."""
        if self._transport is not None:
            await self._transport.open()

    async def close(self) -> None:
        """Stop what is under way and close every connection."""
        try:
            await self._models.close()
        finally:
            if self._transport is not None:
                await self._transport.close()

    async def resolve(self, model: str) -> str:
        """Return the name that the upstream knows the model by. Raises UpstreamFailed when there is none."""
        self._set_transport()
        return await self._models.resolve(model)

    async def models(self) -> list[dict[str, Any]]:
        """Return the raw `/models` entries, for `GET /models`. Raises Unavailable or UpstreamProblem."""
        if self._transport is None:
            raise Unavailable(UNSET)
        try:
            return await self._models.listing()
        except RunError as error:
            raise UpstreamProblem(error.message, http_status=502) from error

    async def check(self) -> str | None:
        """Return None when the upstream answers, else the reason in a sentence."""
        try:
            self._set_transport()
            await self._models.listing(max_age_s=_LISTING_S)
        except PromptRefused:
            return None  # it answers, but has no `/models`
        except RunError as error:
            return error.message
        return None

    def context_limit(self, model: str) -> int | None:
        """Return the model's context in tokens as far as it is known: told by a refusal, else by the listing."""
        return self._models.context_limit(model)

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context limit in tokens that a refusal told."""
        self._models.learn_limit(model, limit)

    async def answer(self, payload: dict[str, Any]) -> aiohttp.ClientResponse:
        """Post a completion with retries; returns the 2xx answer unread. Raises RunError."""
        answer = await self._set_transport().post(_encode(self._dialect(payload)))
        if isinstance(answer, Refusal):
            raise await self._explained(answer, str(payload.get("model", "")))
        return answer

    async def embed(self, model: str, texts: Sequence[str]) -> Any:
        """Post to `/embeddings` with retries and return the answer's JSON. Raises RunError."""
        transport = self._set_transport()
        body = _encode({"model": model, "input": list(texts), "encoding_format": "float"})
        answer = await transport.post(body, transport.endpoint.embeddings)
        if isinstance(answer, Refusal):
            raise await self._explained(answer, model)
        try:
            return orjson.loads(await _read(answer, _MAX_EMBEDDINGS_BYTES))
        except orjson.JSONDecodeError as error:
            host = transport.endpoint.host
            raise UpstreamFailed(f"{host} answered `/embeddings` with something else than JSON.") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise failure(error, transport.endpoint, idle_s=self.patience.idle_s) from error

    async def pass_through(self, body: dict[str, Any]) -> Passage:
        """Send a client's `/chat/completions` body on and return the answer, errors of the upstream included.

        Nothing is tried again here: the client has its own retries. Cancelling the call closes the upstream.
        Raises Unavailable, InvalidRequest, UpstreamProblem.
        """
        if self._transport is None:
            raise Unavailable(UNSET)
        model = body.get("model") or ""
        if not isinstance(model, str):
            raise InvalidRequest("`model` must be a string", param="model", code="invalid_type")
        try:
            payload = {**body, "model": await self.resolve(model)}
            if payload.get("max_tokens") == -1:
                del payload["max_tokens"]
            encoded = _encode(payload)
        except PromptRefused as error:
            raise InvalidRequest(error.message) from error
        except RunError as error:
            raise UpstreamProblem(error.message, http_status=502) from error
        return await open_passage(self._transport, encoded)

    async def _explained(self, refusal: Refusal, model: str) -> RunError:
        """Make a run error of a refusal; asks for the models when it needs to name them."""
        listed: list[str] | None = None
        if refusal.overflow and refusal.limit:
            self.learn_limit(model, refusal.limit)
        if refusal.status == 404:
            try:
                listed = [entry["id"] for entry in await self._models.listing()]
            except RunError:
                listed = self._models.names()
        return explain(refusal, host=self._set_transport().endpoint.host, model=model, listed=listed)

    async def _fetch_models(self) -> list[dict[str, Any]]:
        transport = self._set_transport()
        try:
            async with asyncio.timeout(_LISTING_S):
                response = await transport.send("GET", transport.endpoint.models)
                if response.status != 200:
                    refusal = await transport.refusal(response)
                    error = explain(refusal, host=transport.endpoint.host)
                    raise error if not isinstance(error, RateLimited) else UpstreamFailed(error.message)
                body = await _read(response, _MAX_LISTING_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise failure(error, transport.endpoint, idle_s=_LISTING_S) from error
        return _entries(body, transport.endpoint.host)

    def _set_transport(self) -> Transport:
        if self._transport is None:
            raise UpstreamFailed(UNSET)
        return self._transport

    def _dialect(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Drop what is not set, and call the answer's limit what the host calls it."""
        kept = {name: value for name, value in payload.items() if value is not None}
        limit = kept.pop("max_completion_tokens", None) or kept.pop("max_tokens", None)
        kept.pop("max_tokens", None)
        if limit is not None and limit > 0:
            is_openai = self.endpoint is not None and self.endpoint.is_openai
            kept["max_completion_tokens" if is_openai else "max_tokens"] = limit
        return kept


def _version() -> str:
    try:
        return version("threadhold")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0"


def _encode(payload: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        raise PromptRefused(f"The prompt cannot be sent as JSON: {error}.") from error


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    try:
        async for block in response.content.iter_any():
            body += block
            if len(body) > max_bytes:
                raise UpstreamFailed(f"the answer is longer than {max_bytes} bytes")
    finally:
        response.release() if response.content.at_eof() else response.close()
    return bytes(body)


def _entries(body: bytes, host: str) -> list[dict[str, Any]]:
    """The entries with an id, from any of the shapes in use: `{"data": […]}`, `{"models": […]}`, a bare list."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamFailed(f"{host} answered `/models` with something else than JSON. Check MODEL_URL.") from error
    if isinstance(told, dict):
        told = told.get("data") or told.get("models")
    entries = [entry for entry in told or () if isinstance(entry, dict)] if isinstance(told, list) else []
    named = [{"id": entry.get("id") or entry.get("name"), **entry} for entry in entries]
    return [entry for entry in named if isinstance(entry["id"], str)]
