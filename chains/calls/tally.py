"""What the requests of one reply cost, and how the last of them ended: several requests look like one outside."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata, add_usage

__all__ = ["Tally"]


class Tally:
    """Takes usage and finish reason out of chunks, and gives them back as one last chunk."""

    def __init__(self, max_tokens: int | None) -> None:
        """`max_tokens`: what all requests together may generate."""
        self.finish: str | None = None
        self.requests = 0
        self._max_tokens = max_tokens
        self._spent: UsageMetadata | None = None

    @property
    def left(self) -> int | None:
        """How many tokens the next request may generate; None for any number, never below 0."""
        if self._max_tokens is None:
            return None
        return max(0, self._max_tokens - (self._spent["output_tokens"] if self._spent else 0))

    async def follow(self, chunks: AsyncGenerator[AIMessageChunk]) -> AsyncGenerator[AIMessageChunk]:
        """Yield one request's chunks without usage and finish reason. If no tokens are left, make no request: engines
        read a limit of 0 as none."""
        if self.left == 0:
            self.finish = "length"
            await chunks.aclose()
            return
        self.requests += 1
        self.finish = None
        usage: UsageMetadata | None = None
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    finish = chunk.response_metadata.get("finish_reason")
                    if not finish and not chunk.usage_metadata:
                        yield chunk
                        continue
                    self.finish = finish or self.finish
                    usage = chunk.usage_metadata or usage  # what comes later counts all that came before
                    if chunk.content or chunk.tool_call_chunks or chunk.additional_kwargs:
                        yield chunk.model_copy(update={"usage_metadata": None, "response_metadata": {}})
        finally:
            if usage is not None:
                self._spent = add_usage(self._spent, usage)

    async def text(self, chunks: AsyncGenerator[AIMessageChunk]) -> str:
        """Return one request's whole text."""
        async with aclosing(self.follow(chunks)) as following:
            return "".join([text_of(chunk) async for chunk in following])

    def last(self, finish: str | None = None) -> AIMessageChunk:
        """Return the chunk that ends the reply; `requests` beside the finish reason tells how many it took."""
        told = {"finish_reason": finish or self.finish or "stop", "requests": self.requests}
        return AIMessageChunk(content="", response_metadata=told, usage_metadata=self._spent)


def text_of(chunk: AIMessageChunk) -> str:
    """Return a chunk's text."""
    if isinstance(chunk.content, str):
        return chunk.content
    return "".join(texts_of(chunk))


def texts_of(chunk: AIMessageChunk) -> list[str]:
    """Return a chunk's texts, as they came from the model."""
    if isinstance(chunk.content, str):
        return [chunk.content]
    return [part if isinstance(part, str) else part.get("text", "") for part in chunk.content]
