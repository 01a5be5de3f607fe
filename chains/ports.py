"""The ports of model servers: what the router needs of an upstream, and what a run needs of a model."""

from collections.abc import AsyncGenerator
from typing import Protocol

from langchain_core.messages import AIMessageChunk

from chains.chat_types import ModelEntry
from chains.context import Prompt
from chains.forwarding import CHAT, Body
from chains.reply import ReplyCall
from chains.upstream_response import UpstreamResponse
from telemetry.metrics import Counts

__all__ = ["ChatBackend", "ModelSource"]


class ModelSource(Protocol):
    """What `ModelRouter` needs of an upstream: `chains.Upstream` and `chains.Provider` implement it."""

    @property
    def outcomes(self) -> Counts:
        """Counts of requests by outcome: `ok` or a kind of failure."""
        ...

    @property
    def has_listed(self) -> bool:
        """Whether `names` is complete without waiting."""
        ...

    async def open(self) -> None:
        """Prepare for requests, without connecting."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...

    async def wait_for_listing(self) -> None:
        """Wait, for a limited time, until `has_listed`. If the listing fails, nothing is raised."""
        ...

    def names(self) -> list[str]:
        """Return the ids last listed."""
        ...

    async def models(self) -> list[ModelEntry]:
        """Return the raw `/models` entries. Raises Problem."""
        ...

    async def check(self) -> str | None:
        """Return None if it answers, else the reason in a sentence."""
        ...

    async def pass_through(self, body: Body, path: str = CHAT) -> UpstreamResponse:
        """Answer a client's own request to a path of OpenAI's API. Raises Problem, NotFound for an unknown path."""
        ...


class ChatBackend(Protocol):
    """Answers model calls: `chains.OpenAIBackend` and `chains.Provider` implement it."""

    def stream(self, call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        """Yield the answer's chunks. Raises RunError only."""
        ...

    def context_limit(self, model: str) -> int | None:
        """Return the model's context length in tokens, None if it is unknown."""
        ...

    async def fit(self, model: str, prompt: Prompt, *, answer: int | None) -> Prompt:
        """Return the prompt shortened to the model's context. Raises RunError."""
        ...

    async def calls_natively(self, model: str) -> bool:
        """Whether the model's server makes tool calls itself. Raises RunError."""
        ...

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context length, in tokens, that the upstream stated."""
        ...

    def tokens_per_char(self, model: str) -> float:
        """Return the calibrated estimate for this model."""
        ...

    def calibrate(self, model: str, *, chars: int, prompt_tokens: int) -> None:
        """Correct the estimate with an answer's usage."""
        ...
