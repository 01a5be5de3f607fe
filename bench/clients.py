"""Clients that get the same answer from the scripted model: directly, through the pass-through, or through a server.

All have the same two methods, so every measurement treats them alike. Times are `time.monotonic()` in seconds, which
all processes of a machine share.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypedDict

import aiohttp

from bench.processes import Process

__all__ = ["Answer", "Client", "CompletionsClient", "ModelScript", "ServerClient", "connect"]

_TOKEN: Final = re.compile(rb'"(?:content|value)": ?"([^" ]+) "')
"""A token of a stream. The whole text, which the last events repeat, has several words and does not match."""

_SYSTEM: Final = "Be quick."
_QUESTION: Final = "Count, please."
_LIMIT_S: Final = 120
_WAIT_LIMIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One streamed answer; `tokens` has the time at which each token arrived, and the token itself."""

    sent_at: float
    ended_at: float
    tokens: list[tuple[float, bytes]]

    @property
    def first_s(self) -> float:
        """Seconds from sending the request to the first token."""
        return self.tokens[0][0] - self.sent_at


class Counters(TypedDict):
    """The counters of the scripted model."""

    open_streams: int
    closed_at: list[float]
    """The time at which each connection was closed in mid-stream."""


class Client(Protocol):
    """A client of the model. `pid` is the process that answers it; `name` is its column of the table."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int: ...

    async def prepare(self) -> str:
        """Do everything that a program does before it asks for an answer; return the thread's id, empty without one."""

    async def answer(self, thread: str) -> Answer:
        """Ask for an answer and read its stream to the end. Raises RuntimeError if the stream ends too early."""


@asynccontextmanager
async def connect() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session without a limit of connections."""
    timeout = aiohttp.ClientTimeout(total=_LIMIT_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        yield session


class ModelScript:
    """Controls the scripted model's answers, and reads its counters."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._root = url.removesuffix("/v1")

    async def set_answer(self, *, tokens: int, delay_s: float = 0.0) -> None:
        """Set the answer to so many tokens, each `delay_s` after the previous one.

        A token with a delay is the `time.monotonic_ns()` at which the model sends it.
        """
        chunks = ["{now} " if delay_s else f"w{number} " for number in range(tokens)]
        step = {"kind": "reply", "chunks": chunks, "delay_s": delay_s, "stamped": delay_s > 0}
        await post_json(self._session, f"{self._root}/script", {"default": step})

    async def counters(self) -> Counters:
        """Return the model's counters."""
        async with self._session.get(f"{self._root}/counters") as answer:
            answer.raise_for_status()
            counters: Counters = await answer.json()
            return counters

    async def wait_for(self, condition: Callable[[Counters], bool]) -> Counters:
        """Wait until the counters meet the condition. Raises TimeoutError after 5 s."""
        async with asyncio.timeout(_WAIT_LIMIT_S):
            while not condition(counters := await self.counters()):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)
            return counters


class CompletionsClient:
    """Streamed completions, from the model itself or through the pass-through."""

    def __init__(self, session: aiohttp.ClientSession, process: Process) -> None:
        self.name = process.name
        self.pid = process.pid
        self._session = session
        self._url = f"{process.url}/chat/completions"

    async def prepare(self) -> str:
        """Do nothing: a completion needs no thread."""
        return ""

    async def answer(self, thread: str) -> Answer:
        """Stream one completion."""
        del thread
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _QUESTION}]
        body = {"model": "bench", "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        return await _stream(self._session, self._url, body, b"[DONE]")


class ServerClient:
    """Streamed runs of one assistant. `await create_assistant()` comes first."""

    def __init__(self, session: aiohttp.ClientSession, process: Process) -> None:
        self.name = process.name
        self.pid = process.pid
        self._session = session
        self._url = f"{process.url}/v1"
        self._assistant = ""

    async def create_assistant(self) -> None:
        """Create the assistant that all runs use."""
        self._assistant = (await self._post("/assistants", {"model": "bench", "instructions": _SYSTEM}))["id"]

    async def prepare(self) -> str:
        """Create a thread with one message, in two requests as most programs do."""
        thread: str = (await self._post("/threads", {}))["id"]
        await self.add_message(thread)
        return thread

    async def add_message(self, thread: str) -> None:
        """Add a user message."""
        await self._post(f"/threads/{thread}/messages", {"role": "user", "content": _QUESTION})

    async def answer(self, thread: str) -> Answer:
        """Stream one run."""
        body = {"assistant_id": self._assistant, "stream": True}
        return await _stream(self._session, f"{self._url}/threads/{thread}/runs", body, b"thread.run.completed")

    async def start_run(self, thread: str) -> str:
        """Start a run without reading it; return its id."""
        run: str = (await self._post(f"/threads/{thread}/runs", {"assistant_id": self._assistant}))["id"]
        return run

    async def cancel_run(self, thread: str, run: str) -> None:
        """Cancel a run."""
        await self._post(f"/threads/{thread}/runs/{run}/cancel", {})

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return await post_json(self._session, self._url + path, body)


async def post_json(session: aiohttp.ClientSession, url: str, body: Mapping[str, Any]) -> Any:
    """Send a JSON request; return the body of its answer, which must be a success."""
    async with session.post(url, json=body) as answer:
        answer.raise_for_status()
        return await answer.json()


async def _stream(session: aiohttp.ClientSession, url: str, body: Mapping[str, Any], end: bytes) -> Answer:
    tokens: list[tuple[float, bytes]] = []
    sent_at, buffer, ended = time.monotonic(), b"", False
    async with session.post(url, json=body) as answer:
        answer.raise_for_status()
        async for block in answer.content.iter_any():
            now, buffer, done = time.monotonic(), buffer + block, 0
            for token in _TOKEN.finditer(buffer):
                tokens.append((now, token[1]))
                done = token.end()
            ended = ended or end in buffer
            buffer = buffer[done:][-200:]  # a token can be split between two blocks
    if not (tokens and ended):
        raise RuntimeError(f"{url} ended too early, after {len(tokens)} tokens: {buffer!r}")
    return Answer(sent_at, time.monotonic(), tokens)
