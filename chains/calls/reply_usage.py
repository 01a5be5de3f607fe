"""The token usage of all requests of one reply, and how the last one ended: clients see one response."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata, add_usage

__all__ = ["ReplyUsage"]


class ReplyUsage:
    """Removes usage and finish reason from chunks, and returns their totals as one last chunk."""

    def __init__(self, max_tokens: int | None) -> None:
        """`max_tokens` limits the output of all requests together."""
        self.finish: str | None = None
        self.requests = 0
        self._max_tokens = max_tokens
        self._spent: UsageMetadata | None = None

    @property
    def tokens_left(self) -> int | None:
        """How many tokens the next request can generate, at least 0; None without a limit."""
        if self._max_tokens is None:
            return None
        return max(0, self._max_tokens - (self._spent["output_tokens"] if self._spent else 0))

    async def follow(self, chunks: AsyncGenerator[AIMessageChunk]) -> AsyncGenerator[AIMessageChunk]:
        """Yield one request's chunks without usage and finish reason. If no tokens are left, make no request: engines
        read a limit of 0 as no limit."""
        if self.tokens_left == 0:
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
                    usage = chunk.usage_metadata or usage  # a later count includes the earlier ones
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
        """Return the chunk that ends the reply; its `requests` is the number of requests that the reply took."""
        metadata = {"finish_reason": finish or self.finish or "stop", "requests": self.requests}
        return AIMessageChunk(content="", response_metadata=metadata, usage_metadata=self._spent)


def text_of(chunk: AIMessageChunk) -> str:
    """Return a chunk's text."""
    if isinstance(chunk.content, str):
        return chunk.content
    return "".join(texts_of(chunk))


def texts_of(chunk: AIMessageChunk) -> list[str]:
    """Return a chunk's texts as the model sent them."""
    if isinstance(chunk.content, str):
        return [chunk.content]
    return [part if isinstance(part, str) else part.get("text", "") for part in chunk.content]
