"""The model of the test suite: a real HTTP server that serves `/chat/completions` from a script.

    with ScriptedUpstream() as up:
        up.script(Reply("Hello"), Fail(429, headers={"Retry-After": "1"}), Hang())
        ...  # point MODEL_URL at up.url
        assert up.requests[0].body["messages"]

Replies are served first in, first out; with an empty script `up.default` answers, which echoes. It runs in a thread of
its own, or as a process (`python -m tests.upstream --port N`) that is scripted by `POST /script` and read by `GET
/seen`.
"""

import argparse
import asyncio
import contextlib
import itertools
import re
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Self

import orjson
from aiohttp import web

__all__ = ["Fail", "Hang", "Raw", "Reply", "ScriptedUpstream", "Seen", "SeenRaw", "Step"]

CHARS_PER_TOKEN = 4  # how many characters the fake counts as a token of the prompt


@dataclass(frozen=True)
class Reply:
    """One successful answer, streamed or complete as the request asks.

    Text is split into words unless `chunks` gives the pieces. A tool call is (name, arguments) or (name, arguments,
    id). After `pause_after` chunks the stream stalls until `up.release()`; after `cut_after` chunks the connection is
    dropped. `stamped`: `{now}` in a chunk becomes the `time.monotonic_ns()` at which it is sent.
    """

    text: str = ""
    chunks: Sequence[str] | None = None
    tool_calls: Sequence[tuple[Any, ...]] = ()
    delay_s: float = 0.0
    start_s: float = 0.0
    finish: str | None = "stop"
    usage: bool | dict[str, int] = True
    done: bool = True
    pause_after: int | None = None
    cut_after: int | None = None
    stamped: bool = False


@dataclass(frozen=True)
class Fail:
    """An HTTP error: a dict body becomes JSON, a string is sent as `content_type`."""

    status: int = 500
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "text/html"


@dataclass(frozen=True)
class Hang:
    """Nothing, not even headers, until the client leaves or `up.release()` (then the connection is dropped)."""


@dataclass(frozen=True)
class Raw:
    """Bytes as they stand, one write each; `then` ends the answer well, stalls, or drops the connection."""

    parts: Sequence[bytes] = ()
    status: int = 200
    content_type: str = "text/event-stream"
    then: Literal["end", "hang", "drop"] = "end"
    delay_s: float = 0.0


Step = Reply | Fail | Hang | Raw


@dataclass(frozen=True)
class Seen:
    """One recorded request to `/chat/completions`; `at` is time.monotonic(), header names are lower case."""

    body: dict[str, Any]
    headers: dict[str, str]
    at: float
    peer: Any


@dataclass(frozen=True)
class SeenRaw:
    """One recorded request to a path of `raw`, its body as it came; header names are lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


def echo(body: dict[str, Any]) -> Step:
    """The default answer: the last user text."""
    texts = [_text(m.get("content")) for m in body.get("messages", []) if m.get("role") == "user"]
    return Reply(f"Echo: {texts[-1] if texts else ''}")


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """Make a vector of each text's words: each word has a fixed dimension, so that texts without a common word are
    orthogonal."""
    data = []
    for index, text in enumerate(body["input"]):
        vector = [0.0] * 64
        for word in re.findall(r"\w+", text.lower()):
            vector[zlib.crc32(word.encode()) % 64] += 1.0
        data.append({"object": "embedding", "index": index, "embedding": vector if any(vector) else [1.0] * 64})
    return {"object": "list", "model": body["model"], "data": data}


class ScriptedUpstream:
    """The server in its own thread. Any thread can read the attributes; only the server's thread changes the
    counters."""

    def __init__(
        self,
        *,
        port: int = 0,
        models: Sequence[dict[str, Any]] = ({"id": "test-model", "object": "model", "created": 1, "owned_by": "test"},),
        ssl_context: ssl.SSLContext | None = None,
        context: int | None = None,
    ) -> None:
        """Prepare the server.

        `context` is in tokens of four characters: longer prompts are refused with llama.cpp's message.
        """
        self.models: list[dict[str, Any]] = list(models)
        self.models_reply: Fail | Hang | Raw | None = None
        self.models_asked = 0
        self.extra: dict[str, Callable[[Any], Any]] = {"/v1/embeddings": embeddings}
        """Other paths (`/props`, `/tokenize`): what each answers to a body; None or no entry is a 404."""
        self.extra_asked: list[str] = []
        self.raw: dict[str, Step] = {}
        """Other paths whose bodies are not looked at: what each answers. What came is in `raw_seen`."""
        self.raw_seen: list[SeenRaw] = []
        self.props: dict[str, Any] | None = None
        """What `/props` tells; None: there is no such page, as everywhere but at llama.cpp."""
        self.tools: Literal["native", "ignored", "refused"] = "native"
        """What becomes of `tools`; the probe for them is answered by this and counted, never scripted or recorded."""
        self.probes = 0
        self.formats: Sequence[str] = ("json_object", "json_schema")
        """Kinds of `response_format` that are known; others are refused."""
        self.strict_turns = False
        """Whether the chat template raises at a system message and at turns that do not alternate, as Mistral's."""
        self.context = context
        self.default: Callable[[dict[str, Any]], Step] = echo
        self.requests: list[Seen] = []
        self.open_streams = 0
        self.closed_early = 0
        self.closed_at: list[float] = []
        self.finished = 0
        self.port = port
        self._script: deque[Step] = deque()
        self._ssl = ssl_context
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._go: asyncio.Event | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self.port}/v1"

    def script(self, *steps: Step) -> None:
        """Queue answers."""
        self._script.extend(steps)

    def forget(self) -> None:
        """Reset the script, the recorded requests and the default answer, for a test that shares this server."""
        self._script.clear()
        self.default = echo
        for recorded in (self.requests, self.raw_seen, self.extra_asked, self.closed_at):
            recorded.clear()
        self.closed_early = self.finished = 0

    def release(self) -> None:
        """Resume everything that is stalled."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._release)

    def wait_for(self, condition: Callable[[Self], bool], timeout_s: float = 60.0) -> None:
        """Block until the condition holds (use `eventually` on an event loop). Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout_s):
                raise TimeoutError(f"not seen within {timeout_s} s: {self._counters()}")

    async def eventually(
        self, condition: Callable[[Self], bool], timeout_s: float = 60.0, *, asked_by: "asyncio.Task[Any] | None" = None
    ) -> None:
        """Wait until the condition holds, without blocking the loop.

        Raises TimeoutError, or the error with which the task that asks has failed.
        """
        limit = time.monotonic() + timeout_s
        while not condition(self):
            if asked_by is not None and asked_by.done():
                raise AssertionError(f"its asker ended first: {self._counters()}") from asked_by.exception()
            if time.monotonic() > limit:
                raise TimeoutError(f"not seen within {timeout_s} s: {self._counters()}")
            await asyncio.sleep(0.001)

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready.set)), name="scripted-upstream")
        self._thread.start()
        if not ready.wait(60):
            raise TimeoutError("the scripted upstream did not start")
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serve until stopped; `ready` is called once the port is open."""
        self._loop, self._stop, self._go = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        app = web.Application(client_max_size=1 << 28)
        for prefix in ("", "/v1"):
            app.router.add_get(f"{prefix}/models", self._list_models)
            app.router.add_post(f"{prefix}/chat/completions", self._complete)
        app.router.add_get("/props", self._show_props)
        app.router.add_post("/script", self._take_script)
        app.router.add_get("/seen", self._show_seen)
        app.router.add_get("/counters", self._show_counters)
        app.router.add_route("*", "/{path:.*}", self._answer_extra)
        # The handler's cancellation on disconnect is what reports a closed client immediately.
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._ssl)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        ready()
        try:
            await self._stop.wait()
        finally:
            self._release()
            # In Python 3.11, asyncio leaks a connection that was accepted in the turn of the loop in which its server
            # closes (the transport's constructor asserts an open server). So the server first stops accepting, and that
            # turn ends.
            for listening in site._server.sockets:  # type: ignore[union-attr]
                self._loop.remove_reader(listening.fileno())
            await asyncio.sleep(0.001)
            await runner.cleanup()

    # --- handlers -----------------------------------------------------------------------------------------------------

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        self.models_asked += 1
        if self.models_reply is not None:
            return await self._play(self.models_reply, request, {})
        return _json({"object": "list", "data": self.models})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        if _is_probe(body):
            self.probes += 1
            return await self._play(_PROBED[self.tools], request, body)
        headers = {name.lower(): value for name, value in request.headers.items()}
        peer = request.transport.get_extra_info("peername") if request.transport else None
        self.requests.append(Seen(body, headers, time.monotonic(), peer))
        self._count("open_streams", 1)
        try:
            refused = self._overflow(body) or self._refused(body)
            step = refused or (self._script.popleft() if self._script else self.default(body))
            response = await self._play(step, request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.closed_at.append(time.monotonic())
            self._count("closed_early", 1)
            raise
        else:
            self._count("finished", 1)
            return response
        finally:
            self._count("open_streams", -1)

    async def _play(self, step: Step, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        match step:
            case Reply():
                await asyncio.sleep(step.start_s)
                if body.get("stream"):
                    return await self._stream(step, request, body)
                return _json(_completion(step, body, next(self._numbers)))
            case Fail(status, content, headers):
                if isinstance(content, str):
                    return web.Response(status=status, text=content, headers=headers, content_type=step.content_type)
                return _json(content if content is not None else _error(status), status, headers)
            case Hang():
                await self._stall()
                return _drop(request, web.Response())
            case Raw():
                return await self._raw(step, request)

    async def _stream(self, reply: Reply, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        usage = bool((body.get("stream_options") or {}).get("include_usage")) and _usage(reply, body)
        payload = orjson.dumps(usage) if usage else b""
        calls, model = orjson.dumps(_calls(reply)), str(body.get("model"))
        frames = _frames(tuple(_pieces(reply)), calls, _finish(reply), model, reply.done, payload)
        for number, frame in enumerate(frames):
            if number == reply.pause_after:
                await self._stall()
            if number == reply.cut_after:
                return _drop(request, response)
            if reply.delay_s:
                await asyncio.sleep(reply.delay_s)
            await response.write(frame.replace(b"{now}", b"%d" % time.monotonic_ns()) if reply.stamped else frame)
        await response.write_eof()
        return response

    async def _raw(self, raw: Raw, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=raw.status, headers={"Content-Type": raw.content_type})
        await response.prepare(request)
        for part in raw.parts:
            if raw.delay_s:
                await asyncio.sleep(raw.delay_s)
            await response.write(part)
        if raw.then == "hang":
            await self._stall()
        if raw.then == "drop":
            return _drop(request, response)
        await response.write_eof()
        return response

    async def _answer_extra(self, request: web.Request) -> web.StreamResponse:
        self.extra_asked.append(request.path)
        body = await request.read()
        if (step := self.raw.get(request.path)) is not None:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.raw_seen.append(SeenRaw(request.path, headers, body))
            try:
                return await self._play(step, request, {})
            except (asyncio.CancelledError, ConnectionError):
                self._count("closed_early", 1)
                raise
        is_json = request.content_type == "application/json"
        answer = self.extra.get(request.path, lambda _: None)(orjson.loads(body) if body and is_json else None)
        if isinstance(answer, Hang):
            await self._stall()
        if isinstance(answer, Fail):
            return _json(answer.body, answer.status, answer.headers)
        return _json(answer) if isinstance(answer, dict) else _json({"error": "not found"}, 404)

    async def _show_props(self, request: web.Request) -> web.StreamResponse:
        return _json(self.props) if self.props is not None else await self._answer_extra(request)

    async def _take_script(self, request: web.Request) -> web.Response:
        """Take a list of steps to queue, or `{"default": step}`; a step is `{"kind": "reply", …fields}`."""
        payload = orjson.loads(await request.read())
        if isinstance(payload, dict):
            step = _step(payload["default"])
            self.default = lambda _: step
        else:
            self.script(*map(_step, payload))
        return _json({"queued": len(self._script)})

    async def _show_seen(self, request: web.Request) -> web.Response:
        del request
        requests = [{"body": seen.body, "headers": seen.headers} for seen in self.requests]
        return _json({**self._counters(), "requests": requests})

    async def _show_counters(self, request: web.Request) -> web.Response:
        """Return the counters without the requests, which can be many megabytes; `closed_at` is `time.monotonic()`."""
        del request
        return _json({**self._counters(), "closed_at": self.closed_at})

    # --- state --------------------------------------------------------------------------------------------------------

    async def _stall(self) -> None:
        assert self._go is not None
        await self._go.wait()

    def _release(self) -> None:
        assert self._go is not None
        self._go.set()
        self._go = asyncio.Event()

    def _count(self, name: Literal["open_streams", "closed_early", "finished"], by: int) -> None:
        with self._changed:
            setattr(self, name, getattr(self, name) + by)
            self._changed.notify_all()

    def _counters(self) -> dict[str, int]:
        return {
            "seen": len(self.requests),
            "open_streams": self.open_streams,
            "closed_early": self.closed_early,
            "finished": self.finished,
        }

    def _overflow(self, body: dict[str, Any]) -> Fail | None:
        used = _prompt_tokens(body)
        if self.context is None or used <= self.context:
            return None
        limit = f"the available context size ({self.context} tokens)"
        message = f"request ({used} tokens) exceeds {limit}, try increasing it"
        payload = {"code": 400, "message": message, "type": "exceed_context_size_error"}
        return Fail(400, {"error": {**payload, "n_prompt_tokens": used, "n_ctx": self.context}})

    def _refused(self, body: dict[str, Any]) -> Fail | None:
        kind = (body.get("response_format") or {}).get("type")
        if kind and kind not in self.formats:
            return Fail(400, {"error": {"message": f"response_format type {kind} is not supported", "code": 400}})
        if self.tools == "refused" and body.get("tools"):
            return _NO_TOOLS
        roles = [message["role"] for message in body.get("messages", [])]
        if self.strict_turns and roles != [("user", "assistant")[place % 2] for place in range(len(roles))]:
            message = "Conversation roles must alternate user/assistant/user/assistant/..."
            return Fail(400, {"error": {"message": message, "type": "BadRequestError", "code": 400}})
        return None


# --- shapes -----------------------------------------------------------------------------------------------------------


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if part.get("type") == "text")
    return content or ""


_NO_TOOLS = Fail(400, {"error": {"message": "test-model does not support tools", "type": "api_error", "code": None}})
_PROBED: dict[str, Step] = {
    "native": Reply(tool_calls=[("ping", {})]),
    "ignored": Reply("I would love to."),
    "refused": _NO_TOOLS,
}


def _is_probe(body: dict[str, Any]) -> bool:
    return [tool["function"]["name"] for tool in body.get("tools") or ()] == ["ping"]


def _pieces(reply: Reply) -> Sequence[str]:
    return reply.chunks if reply.chunks is not None else re.findall(r"\s*\S+|\s+$", reply.text)


def _finish(reply: Reply) -> str | None:
    return "tool_calls" if reply.tool_calls and reply.finish == "stop" else reply.finish


def _calls(reply: Reply) -> list[dict[str, Any]]:
    calls = []
    for number, (name, arguments, *given) in enumerate(reply.tool_calls):
        spelled = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        function = {"name": name, "arguments": spelled}
        calls.append({"id": given[0] if given else f"call_up_{number}", "type": "function", "function": function})
    return calls


def _prompt_tokens(body: dict[str, Any]) -> int:
    return sum(len(_text(m.get("content"))) // CHARS_PER_TOKEN + 1 for m in body.get("messages", []))


def _usage(reply: Reply, body: dict[str, Any]) -> dict[str, int] | None:
    if isinstance(reply.usage, dict):
        return reply.usage
    prompt, completion = _prompt_tokens(body), len(_pieces(reply)) + len(reply.tool_calls)
    payload = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return payload if reply.usage else None


def _completion(reply: Reply, body: dict[str, Any], number: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(_pieces(reply)) or None}
    if reply.tool_calls:
        message["tool_calls"] = _calls(reply)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1, "model": body.get("model")}
    return {**head, "choices": [choice], "usage": _usage(reply, body)}


@lru_cache(maxsize=64)
def _frames(
    pieces: tuple[str, ...], calls: bytes, finish: str | None, model: str, done: bool, usage: bytes
) -> tuple[bytes, ...]:
    """Encode the stream once. Tool calls have OpenAI's form: a head, then fragments of the arguments."""

    def frame(delta: dict[str, Any] | None, finish_reason: str | None = None, **more: Any) -> bytes:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: " + orjson.dumps({**head, "choices": [] if delta is None else [choice], **more}) + b"\n\n"

    frames = [frame({"role": "assistant", "content": ""})]
    frames += [frame({"content": piece}) for piece in pieces]
    decoded = orjson.loads(calls)
    longest = 10_000 // max(1, len(decoded))  # fragments of a call: a reply has at most 10,000
    for number, call in enumerate(decoded):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        head = {"index": number, "id": call["id"], "type": "function", "function": {"name": name, "arguments": ""}}
        frames.append(frame({"tool_calls": [head]}))
        size = max(8, len(arguments) // longest)  # characters of a fragment
        for start in range(0, len(arguments), size):
            fragment = {"index": number, "function": {"arguments": arguments[start : start + size]}}
            frames.append(frame({"tool_calls": [fragment]}))
    if finish is not None:
        frames.append(frame({}, finish))
    if usage:
        frames.append(frame(None, usage=orjson.loads(usage)))
    if done:
        frames.append(b"data: [DONE]\n\n")
    return tuple(frames)


def _error(status: int) -> dict[str, Any]:
    return {"error": {"message": f"scripted {status}", "type": "scripted_error", "param": None, "code": None}}


def _json(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(data), headers=headers, content_type="application/json")


def _drop(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close the connection in the middle of the answer."""
    if request.transport is not None:
        request.transport.abort()
    return response


def _step(payload: dict[str, Any]) -> Step:
    kinds: dict[str, Callable[..., Step]] = {"reply": Reply, "fail": Fail, "hang": Hang, "raw": Raw}
    fields = {name: value for name, value in payload.items() if name != "kind"}
    if "parts" in fields:
        fields["parts"] = [part.encode() for part in fields["parts"]]
    return kinds[payload.get("kind", "reply")](**fields)


def main() -> None:
    """Serve as a process until it is stopped; prints the URL when it listens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--context", type=int, default=None)
    options = parser.parse_args()
    up = ScriptedUpstream(port=options.port, context=options.context)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(up.serve(lambda: print(up.url, flush=True)))  # noqa: T201 (how the parent learns the port)


if __name__ == "__main__":
    main()
