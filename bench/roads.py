"""The roads to the same model: direct, bare, through the server, through LangServe. One client with all of them.

Times are seconds inside.
"""

import re
import time
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

__all__ = ["Load", "Plan", "Timing"]

_TOKEN: Final = re.compile(rb'"(?:content|value)": ?"w\d+ "')
"""One token in any stream, and not the whole text that an event at the end has."""

_SYSTEM: Final = "Be quick."
_QUESTION: Final = "Count, please."


@dataclass(frozen=True)
class Plan:
    """Where things are and how much to do."""

    direct: str
    bare: str
    server: str
    rounds: int
    crowds: int
    singles: int
    turns_s: float
    streams: int
    """Open at once in the row that counts memory."""

    messages: int
    """In the long thread."""

    pid: int
    """Of the server, to read its memory and processor time."""

    bare_pid: int
    """Of the pass-through, to read its processor time."""


@dataclass(frozen=True)
class Timing:
    """One streamed answer, in seconds from sending the request, which was at `sent` (`time.perf_counter`); `gap` is the
    longest silence between two tokens."""

    sent: float
    first: float
    last: float
    gap: float


class Load:
    """All roads to the same model."""

    def __init__(self, session: aiohttp.ClientSession, plan: Plan) -> None:
        self._session = session
        self._plan = plan
        self._assistant = ""

    async def prepare(self) -> None:
        """Make the one assistant, and run each road, so that nothing is measured cold."""
        self._assistant = (await self.post("/assistants", {"model": "bench", "instructions": _SYSTEM}))["id"]
        await self.say(tokens=5, delay_s=0.0)
        for _ in range(10):
            await self.direct()
            await self.bare()
            await self.through(await self.thread())
            await self.facade(await self.thread(asked=False))

    async def say(self, *, tokens: int, delay_s: float) -> None:
        """Set what the model answers to everybody from now on."""
        step = {"kind": "reply", "chunks": [f"w{n} " for n in range(tokens)], "delay_s": delay_s}
        root = self._plan.direct.removesuffix("/v1")
        async with self._session.post(f"{root}/script", json={"default": step}) as answer:
            answer.raise_for_status()

    async def thread(self, *, asked: bool = True) -> str:
        """Make a thread, with one message as a program does before it runs it."""
        thread: str = (await self.post("/threads", {}))["id"]
        if asked:
            await self.message(thread)
        return thread

    async def message(self, thread: str) -> None:
        """Add the user's message."""
        await self.post(f"/threads/{thread}/messages", {"role": "user", "content": _QUESTION})

    async def direct(self) -> Timing:
        """One streamed completion from the model itself."""
        return await self._completion(self._plan.direct)

    async def bare(self) -> Timing:
        """The same through the pass-through."""
        return await self._completion(self._plan.bare)

    async def through(self, thread: str, **more: Any) -> Timing:
        """One streamed run on a prepared thread."""
        told = {"assistant_id": self._assistant, "stream": True, **more}
        return await self._stream(f"{self._plan.server}/v1/threads/{thread}/runs", told, b"thread.run.completed")

    async def facade(self, thread: str) -> Timing:
        """One streamed run through LangServe, its message included."""
        told = {"input": {"assistant_id": self._assistant, "thread_id": thread, "content": _QUESTION}}
        return await self._stream(f"{self._plan.server}/assistant/stream", told, b"thread.run.completed")

    async def turn(self) -> None:
        """A whole turn: thread, message, streamed run."""
        await self.through(await self.thread())

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """One JSON request to the server."""
        async with self._session.post(f"{self._plan.server}/v1{path}", json=body) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def _completion(self, root: str) -> Timing:
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _QUESTION}]
        told = {"model": "bench", "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        return await self._stream(f"{root}/chat/completions", told, b"[DONE]")

    async def _stream(self, url: str, body: dict[str, Any], end: bytes) -> Timing:
        sent = heard = time.perf_counter()
        first, gap, tail, ended = 0.0, 0.0, b"", False
        async with self._session.post(url, json=body) as answer:
            answer.raise_for_status()
            async for data in answer.content.iter_any():
                tail = tail[-200:] + data
                if _TOKEN.search(data if first else tail):
                    before, heard = heard, time.perf_counter()
                    gap = max(gap, heard - before) if first else 0.0
                    first = first or heard - sent
                ended = ended or end in tail
        if not (first and ended):
            raise RuntimeError(f"{url} did not end well: {tail[-200:]!r}")
        return Timing(sent, first, time.perf_counter() - sent, gap)
