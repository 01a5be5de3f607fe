"""Chooses the model that answers a client's `/embeddings`, and returns its answer in OpenAI's shape.

The order is: EMBEDDINGS_MODEL, if it is named; the upstream that the model's prefix means, or that lists the model;
EMBEDDINGS_MODEL for any other name; without that setting, the built-in model if it is installed. While an upstream
is down and has not listed its models, no other model answers for a name that it may have: otherwise a program would
mix the vectors of two models.
"""

import contextlib
from collections.abc import Sequence
from typing import Final

from chains.builtin import Builtin
from chains.chat_types import ModelDetails, ModelEntry
from chains.embedders import words_only_notice
from chains.embedding_json import read_embeddings, write_embeddings
from chains.embeddings import Embedder, UpstreamEmbedder
from chains.error_responses import read_error_response
from chains.forwarding import EMBEDDINGS
from chains.minilm import MiniLm
from chains.model_router import ModelRouter, Route
from chains.ports import ModelSource
from chains.upstream_response import UpstreamResponse
from fairness.fair_limits import REQUESTS, FairLimit
from wire.embeddings import EmbeddingCreate
from wire.errors import EmbeddingFailed, InvalidRequest, PromptRefused, Unavailable, UpstreamProblem

__all__ = ["EmbeddingRouter"]

_MAX_TOKENS: Final = 8_192
"""Maximum tokens of one text for the built-in model, as for OpenAI's models."""

_MAX_REQUEST_TOKENS: Final = 300_000
"""Maximum tokens of all texts of a request to the built-in model, as with OpenAI: about 40 s of one core."""

_PARALLEL: Final = 4
"""Requests that the built-in model processes, in addition to one per owner; searches go first."""

_ASKING: Final = 64
"""Requests to upstreams at the same time, in addition to eight per owner; one owner alone has 40."""

_SMALL_BYTES: Final = 256 * 1024
"""Answers up to this size are read on the event loop; larger ones in a thread."""


class EmbeddingRouter:
    """Routes requests to the upstreams' models and to EMBEDDINGS_MODEL, or to the built-in model. Opens and closes
    nothing."""

    def __init__(self, router: ModelRouter, embedder: Embedder | None, setting: str = "") -> None:
        """`embedder` is the embedder of files, if there is one; `setting` is EMBEDDINGS_MODEL, another name for it."""
        self._router = router
        self._embedder = embedder
        self._names = {setting, embedder.name} if embedder is not None else {setting}
        self._requests = FairLimit(_PARALLEL, minimum=1, portion=1)
        self._asking = FairLimit(_ASKING, minimum=8, portion=1)

    def entries(self) -> list[ModelEntry]:
        """Return the `/models` entry of the built-in model; empty if it is replaced or not installed."""
        if not isinstance(self._embedder, MiniLm):
            return []
        details: ModelDetails = {"embeddings": True, "dimensions": self._embedder.dimensions}
        entry: ModelEntry = {"id": self._embedder.name, "object": "model", "created": 0, "owned_by": "threadhold"}
        return [{**entry, "threadhold": details}]

    async def answer(self, request: EmbeddingCreate, owner: str = "") -> UpstreamResponse:
        """Return vectors, or the upstream's error. Cancelling stops the work.

        Raises InvalidRequest, NotFound, UpstreamProblem, Unavailable.
        """
        route = await self._route(request.model)
        if route is not None:
            if isinstance(route.upstream.source, Builtin):
                raise InvalidRequest(
                    f"The model `{request.model}` generates text and does not make embeddings. {self._advice()}",
                    param="model",
                    code="invalid_value",
                )
            async with self._asking.slot(owner):
                return await _ask(route.upstream.source, route.model, request, owner)
        if isinstance(self._embedder, UpstreamEmbedder):
            async with self._asking.slot(owner):
                return await _ask(self._embedder.upstream, self._embedder.name, request, owner)
        if self._embedder is None or self._router.alias(request.model) != self._embedder.name:
            await self._check_listings(request.model)
        if self._embedder is None:
            raise InvalidRequest(
                f"No upstream lists the model `{request.model[:200]}`. {words_only_notice()}",
                param="model",
                code="model_not_found",
            )
        assert isinstance(self._embedder, MiniLm), "there are two"
        async with self._requests.slot(owner):
            return await self._embed(self._embedder, request, owner)

    async def _route(self, model: str) -> Route | None:
        """Return the route to the upstream that has the model; None for the embedder. Raises InvalidRequest."""
        name = self._router.alias(model)
        if name in self._names:
            return None
        try:
            return await self._router.find(name)
        except PromptRefused as error:
            raise InvalidRequest(error.message, param="model", code="model_not_found") from error

    async def _check_listings(self, model: str) -> None:
        """Raise Unavailable if an upstream that may have the model is down and has not listed its models."""
        for upstream in self._router.upstreams:
            source = upstream.source
            if upstream.models or source.names() or isinstance(source, Builtin):
                continue
            if (why := await source.check()) is not None:
                raise Unavailable(
                    f"The upstream that may have `{model[:200]}` has not listed its models: {why} {self._meanwhile()}"
                )

    def _meanwhile(self) -> str:
        if self._embedder is None:
            return "Try again later."
        return f"Ask for `{self._embedder.name}` to use the built-in model meanwhile."

    def _advice(self) -> str:
        ours = f"`{self._embedder.name}`, or for " if self._embedder is not None else ""
        return f"Ask for {ours}a model of an upstream that has `/embeddings`."

    async def _embed(self, model: MiniLm, request: EmbeddingCreate, owner: str) -> UpstreamResponse:
        texts = request.texts
        if request.dimensions not in (None, model.dimensions):
            # Its vectors were not trained for truncation: shorter ones find noticeably less.
            raise InvalidRequest(
                f"`{model.name}` makes vectors of {model.dimensions} numbers and does not support `dimensions` "
                f"{request.dimensions}. Leave `dimensions` out, or set EMBEDDINGS_MODEL to a model that does.",
                param="dimensions",
                code="invalid_value",
            )
        try:
            counts = await model.count_tokens(texts, owner=owner, maximum=_MAX_REQUEST_TOKENS)
            _check_lengths(counts, model.name)
            vectors = await model.embed(texts, owner=owner)
        except EmbeddingFailed as error:
            raise Unavailable(error.message) from error
        used: dict[str, object] = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
        body = await REQUESTS.run(owner, _encoded, vectors, request, model.name, used)
        return UpstreamResponse(200, "application/json", body=body)


def _check_lengths(counts: list[int], model: str) -> None:
    """Raise InvalidRequest for texts that OpenAI would also refuse. Tokens beyond the limit were not counted."""
    longest = max(counts)
    at_least = "at least " if sum(counts) > _MAX_REQUEST_TOKENS else ""
    if longest > _MAX_TOKENS:
        raise InvalidRequest(
            f"This model's maximum context length is {_MAX_TOKENS} tokens. However, element {counts.index(longest)} of "
            f"your input has {at_least}{longest} tokens. Please reduce the length of the input.",
            param="input",
            code="context_length_exceeded",
        )
    if sum(counts) > _MAX_REQUEST_TOKENS:
        raise InvalidRequest(
            f"The input has {at_least}{sum(counts)} tokens, but `{model}` accepts at most {_MAX_REQUEST_TOKENS} per "
            "request. Split it into several requests.",
            param="input",
            code="max_tokens_per_request",
        )


async def _ask(source: ModelSource, model: str, request: EmbeddingCreate, owner: str) -> UpstreamResponse:
    """Ask an upstream, and return vectors in the requested encoding, even if the upstream does not support it."""
    body = {**request.model_dump(exclude_unset=True, exclude_none=True), "model": model, "input": request.texts}
    response = await source.pass_through(body, EMBEDDINGS)
    refused = response.status in (400, 422) and b"encoding_format" in (response.body or b"")
    if refused and body.pop("encoding_format", None) is not None:
        response = await source.pass_through(body, EMBEDDINGS)
    if not 200 <= response.status < 300:
        return response
    assert response.body is not None, "answers of this path are read whole"
    with contextlib.closing(response):  # a large response keeps its slot until it is converted
        small = len(response.body) < _SMALL_BYTES
        converted = (
            _convert(response.body, request, model)
            if small
            else await REQUESTS.run(owner, _convert, response.body, request, model)
        )
    return UpstreamResponse(200, "application/json", response.headers, converted)


def _convert(body: bytes, request: EmbeddingCreate, model: str) -> bytes:
    """Return an upstream's answer in OpenAI's shape. Raises UpstreamProblem for one without vectors."""
    try:
        answer = read_embeddings(body)
        if not isinstance(answer, dict) or "data" not in answer:
            raise _unusable(read_error_response(body).message)
        # Sorting is stable: entries without an index keep their order.
        entries = sorted(answer["data"], key=lambda entry: entry.get("index") or 0)
        vectors = [entry["embedding"] for entry in entries]
        if len(vectors) != len(request.texts):
            raise _unusable()
        usage = answer["usage"] if isinstance(answer.get("usage"), dict) else {}
        used = {**usage, **{name: usage.get(name) or 0 for name in ("prompt_tokens", "total_tokens")}}
        return _encoded(vectors, request, str(answer.get("model") or model), used)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise _unusable() from error


def _encoded(
    vectors: Sequence[Sequence[float] | str], request: EmbeddingCreate, model: str, used: dict[str, object]
) -> bytes:
    return write_embeddings(vectors, is_base64=request.encoding_format == "base64", model=model, usage=used)


def _unusable(reason: str = "") -> UpstreamProblem:
    quote = f" Its error: {reason}." if reason else ""
    return UpstreamProblem(
        f"The upstream's `/embeddings` did not return one vector for each text.{quote}", http_status=502
    )
