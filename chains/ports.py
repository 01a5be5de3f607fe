"""The ports of model servers: what the routes need of an upstream, and what a run needs of a model."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from langchain_core.messages import AIMessageChunk

from chains.context import Prompt
from chains.forwarding import CHAT, Body
from chains.passage import Passage
from chains.reply import ReplyCall
from telemetry.metrics import Counts

__all__ = ["ChatBackend", "ModelSource"]


class ModelSource(Protocol):
    """An upstream as routes need it: `chains.Upstream` is one, `chains.Provider` another."""

    @property
    def outcomes(self) -> Counts:
        """What became of each request to it, by one word: ok, or a kind of failure."""
        ...

    @property
    def settled(self) -> bool:
        """Whether `names` needs no waiting."""
        ...

    async def open(self) -> None:
        """Get ready; connects nowhere yet."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...

    async def settle(self) -> None:
        """Wait, for a limited time, until `settled`. Raises nothing."""
        ...

    def names(self) -> list[str]:
        """The ids last listed."""
        ...

    async def models(self) -> list[dict[str, Any]]:
        """Return the raw `/models` entries. Raises Problem."""
        ...

    async def check(self) -> str | None:
        """Return None when it answers, else the reason in a sentence."""
        ...

    async def pass_through(self, body: Body, path: str = CHAT) -> Passage:
        """Answer a client's own request to a path of OpenAI's API. Raises Problem, NotFound for an unknown path."""
        ...


class ChatBackend(Protocol):
    """What answers model calls: `chains.Replies` is one, `chains.Provider` another, a test's script a third."""

    def stream(self, call: ReplyCall) -> AsyncIterator[AIMessageChunk]:
        """Yield the reply's chunks. Raises RunError only."""
        ...

    def context_limit(self, model: str) -> int | None:
        """Return the model's context length in tokens where it is known."""
        ...

    async def fit(self, model: str, prompt: Prompt, *, answer: int | None) -> Prompt:
        """Return the prompt shortened to the model's context, with space for an answer of up to `answer` tokens. Raises
        RunError."""
        ...

    async def calls_natively(self, model: str) -> bool:
        """Whether the model's server makes tool calls itself. Raises RunError."""
        ...

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context length that the upstream reported."""
        ...

    def tokens_per_char(self, model: str) -> float:
        """Return the calibrated estimate for this model."""
        ...

    def learn(self, model: str, *, chars: int, prompt_tokens: int) -> None:
        """Correct the estimate by the usage that a reply reported."""
        ...
