"""The watchdog of an engine: detects that llama.cpp hangs, so that the engine can be ended and restarted.

llama.cpp reports the progress of each slot at `/slots`, from a separate thread. Invariant: an engine that is working on
a request either answers `/slots` and makes progress on a slot, or is given up within a limit. A batch of the prompt or
a token is progress; the limit for the first one counts from the request. An idle engine is not polled.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
import orjson

__all__ = ["Watchdog"]

_POLL_S: Final = 1.0
_MISSED: Final = 2
"""Consecutive unanswered polls, each of half the limit: a single one can be this server's own delay."""
_MIN_LIMIT_S: Final = 20.0
_BYTES_PER_S: Final = 10_000_000
"""Progress per second, in bytes of the model: a batch of the demo model (98 MB) takes 0.5 s, under load 4 s."""


@dataclass(frozen=True, slots=True)
class Watchdog:
    """Watches an engine: `slots_url` is llama.cpp's, `model_bytes` the size of the model file."""

    slots_url: str
    headers: dict[str, str]
    model_bytes: int
    longest_s: float
    """The limit of a request without output: the watchdog acts before it."""

    @property
    def limit_s(self) -> float:
        """How long a request can be without progress, in seconds."""
        return min(_MIN_LIMIT_S + self.model_bytes / _BYTES_PER_S, self.longest_s / 2)

    async def until_stuck(self, is_used: Callable[[], bool]) -> str:
        """Return why the engine is given up, as the end of a sentence. Does not return before that."""
        last: object = None
        since = time.monotonic()
        missed = 0
        async with aiohttp.ClientSession(headers=self.headers) as session:
            while True:
                await asyncio.sleep(_POLL_S)
                if not is_used():
                    last, since, missed = None, time.monotonic(), 0
                    continue
                state = await self._poll(session)
                missed = missed + 1 if state is None else 0
                if missed == _MISSED:
                    return f"did not answer for {self.limit_s:.0f} s"
                if state is not None and state != last:
                    last, since = state, time.monotonic()
                elif missed == 0 and time.monotonic() - since > self.limit_s:
                    return f"made no progress for {self.limit_s:.0f} s"

    async def _poll(self, session: aiohttp.ClientSession) -> object:
        """Return the progress of each slot, or None if no answer came in time."""
        try:
            async with asyncio.timeout(self.limit_s / _MISSED), session.get(self.slots_url) as response:
                slots = orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError):
            return None
        return [_progress(slot) for slot in slots if isinstance(slot, dict)] if isinstance(slots, list) else []


def _progress(slot: dict[str, object]) -> tuple[object, ...]:
    counts = slot.get("next_token")
    counts = counts if isinstance(counts, list) else []
    decoded = [each.get("n_decoded") for each in counts if isinstance(each, dict)]
    return slot.get("is_processing"), slot.get("id_task"), slot.get("n_prompt_tokens_processed"), str(decoded)
