"""Limits how many large rows an owner's requests read, and keep, at the same time.

Rows have up to 10 MB, and take ten times as much memory if their values are small. Without a limit, the first results
would fill the memory while the others are read.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar

from fairness.fair_limits import FairLimit

__all__ = ["LargeReads"]


class _Block:
    """A block that keeps what it reads. Its slot is taken for the first large read, and released at the block's end."""

    def __init__(self, reads: "LargeReads") -> None:
        self.reads = reads
        self.is_open = True
        self.has_slot = False
        self.slot = AsyncExitStack()


_BLOCK: ContextVar[_Block | None] = ContextVar("block", default=None)


class LargeReads:
    """Limits large reads. An owner has `maximum` slots; one owner never waits for another."""

    def __init__(self, maximum: int) -> None:
        self._limit = FairLimit(0, minimum=maximum)

    @asynccontextmanager
    async def slot(self, owner: str) -> AsyncIterator[None]:
        """Wait for a slot, and hold it until the end of this context, or of the `held` block around it.

        A block has one slot, however much it reads: a block that waited for a second slot could deadlock.
        """
        block = _BLOCK.get()
        if block is None or block.reads is not self or not block.is_open:  # a task can outlive the block it began in
            async with self._limit.slot(owner):
                yield
            return
        if not block.has_slot:
            block.has_slot = True
            await block.slot.enter_async_context(self._limit.slot(owner))
        yield

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Keep the slot of a large read until the block ends. Blocks can be nested; the outermost one counts."""
        outer = _BLOCK.get()
        if outer is not None and outer.reads is self and outer.is_open:
            yield
            return
        block = _Block(self)
        token = _BLOCK.set(block)
        try:
            async with block.slot:
                yield
        finally:
            block.is_open = False
            _BLOCK.reset(token)
