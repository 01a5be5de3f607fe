"""A real HTTP server that serves Anthropic's `/v1/messages` from a script.

    with ScriptedAnthropic() as up:
        up.script(MessageReply("Hello"), ErrorReply(429, "rate_limit_error", "slow down"))

Facts: https://docs.anthropic.com/en/api/messages-streaming and …/errors. With an empty script, the text is "Hello
there".
"""

import asyncio
import itertools
import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson
from aiohttp import web

__all__ = ["ErrorReply", "MessageReply", "ScriptedAnthropic"]


@dataclass(frozen=True)
class MessageReply:
    """One successful reply; a call is (name, arguments).

    `hang` stalls before the end, `pings` sends pings forever instead of ending, and `breaks` sends an error in the
    stream.
    """

    text: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    reasoning: str = ""
    signature: str = ""
    redacted: str = ""
    stop: str = "end_turn"
    hang: bool = False
    pings: bool = False
    breaks: bool = False
    cut: bool = False


@dataclass(frozen=True)
class ErrorReply:
    """An HTTP error in Anthropic's shape."""

    status: int
    type: str
    message: str
    headers: Mapping[str, str] | None = None


class ScriptedAnthropic:
    """The server in its own thread; `bodies` and `headers` are those of the requests received."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.models = [
            {"type": "model", "id": "claude-test", "display_name": "T", "created_at": "2026-01-01T00:00:00Z"}
        ]
        self.open_streams = 0
        self.closed_early = 0
        self.port = 0
        self._script: deque[MessageReply | ErrorReply] = deque()
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def script(self, *steps: MessageReply | ErrorReply) -> None:
        """Queue answers."""
        self._script.extend(steps)

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name="scripted-anthropic")
        self._thread.start()
        if not ready.wait(10):
            raise TimeoutError("the scripted Anthropic did not start")
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/messages", self._answer)
        app.router.add_get("/v1/models", self._list)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        ready.set()
        try:
            await self._stop.wait()
        finally:
            for listening in site._server.sockets:  # type: ignore[union-attr]  # see tests/upstream.py
                self._loop.remove_reader(listening.fileno())
            await asyncio.sleep(0.001)
            await runner.cleanup()

    async def _list(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        last = self.models[-1]["id"] if self.models else None
        return web.json_response({"data": self.models, "has_more": False, "first_id": last, "last_id": last})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        step: MessageReply | ErrorReply = ErrorReply(
            400, "invalid_request_error", "messages: at least one message is required"
        )
        if body["messages"]:
            step = self._script.popleft() if self._script else MessageReply("Hello there")
        if isinstance(step, ErrorReply):
            error = {"type": "error", "error": {"type": step.type, "message": step.message}, "request_id": "req_1"}
            return web.json_response(error, status=step.status, headers=step.headers)
        self.open_streams += 1
        try:
            return await self._stream(step, request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.closed_early += 1
            raise
        finally:
            self.open_streams -= 1

    async def _stream(self, reply: MessageReply, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert body["stream"] is True
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for kind, data in self._events(reply, body):
            if kind == "message_delta" and reply.hang:
                await asyncio.Event().wait()
            while kind == "message_delta" and reply.pings:
                await response.write(b'event: ping\ndata: {"type": "ping"}\n\n')
                await asyncio.sleep(0.02)
            if kind == "message_delta" and reply.cut:
                break
            if kind == "message_delta" and reply.breaks:
                kind, data = "error", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
            await response.write(b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(data)))
            if kind == "error":
                break
        await response.write_eof()
        return response

    def _events(self, reply: MessageReply, body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        used = len(orjson.dumps(body["messages"])) // 4
        usage = {"input_tokens": used, "output_tokens": 1}
        message = {"id": f"msg_{next(self._numbers)}", "type": "message", "role": "assistant", "content": []}
        message |= {"model": body["model"], "stop_reason": None, "stop_sequence": None, "usage": usage}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        if reply.reasoning:
            pieces = [{"type": "thinking_delta", "thinking": word} for word in re.findall(r"\s*\S+", reply.reasoning)]
            if reply.signature:
                pieces.append({"type": "signature_delta", "signature": reply.signature})
            blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, pieces))
        if reply.redacted:
            blocks.append(({"type": "redacted_thinking", "data": reply.redacted}, []))
        if reply.text:
            pieces = [{"type": "text_delta", "text": word} for word in re.findall(r"\s*\S+", reply.text)]
            blocks.append(({"type": "text", "text": ""}, pieces))
        for name, arguments in reply.calls:
            spelled = orjson.dumps(arguments).decode()
            parts = [spelled[at : at + 7] for at in range(0, len(spelled), 7)]
            pieces = [{"type": "input_json_delta", "partial_json": part} for part in ("", *parts)]
            id = f"toolu_{next(self._numbers)}"
            blocks.append(({"type": "tool_use", "id": id, "name": name, "input": {}}, pieces))
        for index, (block, pieces) in enumerate(blocks):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events.append({"type": "ping"})
            events += [{"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces]
            events.append({"type": "content_block_stop", "index": index})
        stop = "tool_use" if reply.calls and reply.stop == "end_turn" else reply.stop
        delta = {"stop_reason": stop, "stop_sequence": None}
        made = {"input_tokens": used, "output_tokens": len(events)}
        events.append({"type": "message_delta", "delta": delta, "usage": made})
        events.append({"type": "message_stop"})
        return [(event["type"], event) for event in events]
