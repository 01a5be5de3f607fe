"""One loaded model: llama.cpp in a process of its own that starts automatically, on a free port of 127.0.0.1.

Invariants: it serves this server only (a random key, no web page, no foreign origins). It ends with the server, however
the server ends. Loading never blocks the server, and can be cancelled at any moment. If the process fails, the error
includes its own message.
"""

import asyncio
import contextlib
import logging
import secrets
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import orjson

from chains.demo import DEMO_REPLY_TOKENS, demo_request
from chains.engine_watchdog import Watchdog
from chains.gguf import Gguf, check_content
from chains.llama import EngineReport, EngineSettings
from chains.read_ahead import read_ahead
from chains.transport import CallLimits
from chains.upstream import Upstream
from telemetry.metrics import Counts
from wire.errors import UpstreamFailed

__all__ = ["OTHER_SERVER_ADVICE", "Engine", "EngineConfig", "EngineEnded", "OpenResponse"]

OTHER_SERVER_ADVICE: Final = "Set MODEL_URL to an OpenAI-compatible server, such as http://127.0.0.1:8080/v1."

_PROGRAM: Final = Path(__file__).with_name("llama.py")
_BATCH: Final = 256  # tokens of a prompt per step; an abandoned prompt continues to the end of its batch
_CACHE_MIB: Final = 1_024  # for prompts evicted by others; llama.cpp's default of 8 GiB suits dedicated servers
_REPLY_TOKENS: Final = 1_024  # of a reply without another limit: a small model may never stop
# llama.cpp notices that a reader has left when it writes, so it has to write after each batch of a prompt. It also
# checks after a second without output, but restarts that second whenever any answer continues.
_WATCHED: Final = {"return_progress": True}
_KILL_S: Final = 5.0
_EXIT_DELAY_S: Final = 1.0  # a crash breaks connections up to half a second before the exit
_IDLE_POLL_S: Final = 0.05
_KEPT_LINES: Final = 50
_LINE_BYTES: Final = 4 * 1024 * 1024  # `props` includes the template

_log = logging.getLogger("threadhold.engine")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How a model runs: tokens of context per answer, parallel answers, threads of a computation.

    Without `max_reply_tokens`, each model has a limit of its own; see `reply_limit`. `drain_s` is how long requests for
    a model wait while it is about to be unloaded, and how long they are then accepted again.
    """

    context_size: int = 8_192
    parallel: int = 2
    threads: int = 1
    max_reply_tokens: int | None = None
    drain_s: float = 5.0

    def reply_limit(self, model: Gguf) -> int:
        """Return how many tokens an answer can have if its request sets no limit."""
        return self.max_reply_tokens or (DEMO_REPLY_TOKENS if model.is_demo else _REPLY_TOKENS)


class EngineEnded(UpstreamFailed):
    """The engine's process ended, or was ended because it hung (`is_hang`), while it worked on a request. `was_sole`
    means that it worked for no other owner at that time."""

    is_hang = False

    def may_recur(self, body: Mapping[str, object]) -> bool:
        """Return whether the request has a grammar that can have made the engine hang; a retry would make others
        wait."""
        return self.is_hang and (body.get("response_format") is not None or body.get("tools") is not None)

    was_sole = False


class OpenResponse(Protocol):
    """An answer that is being read: it keeps an engine busy until it is closed."""

    @property
    def closed(self) -> bool:
        """Whether its reader has finished or left."""
        ...


class Engine:
    """A loaded model, reached through `upstream`. Call `start` before use and `close` after."""

    def __init__(self, model: Gguf, config: EngineConfig, limits: CallLimits, outcomes: Counts, ends: Counts) -> None:
        """Starts nothing. `outcomes` counts requests across successive engines; `ends` counts ends of their processes,
        by themselves ("crashed") or because they hung ("stuck")."""
        self.model = model
        self.is_draining = False  # it accepts no more requests, and is unloaded when it has answered the open ones
        self.asking = 0  # requests without an answer so far
        self.props: dict[str, object] = {}  # llama.cpp's `/props` at the time of loading
        self._config = config
        self._limits = limits
        self._outcomes = outcomes
        self._responses: list[weakref.ref[OpenResponse]] = []
        self._output: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._ends = ends
        self._guard: asyncio.Task[None] | None = None
        self._stuck = ""
        self.started_at = 0.0
        """When it became ready, in monotonic seconds."""
        self._upstream: Upstream | None = None

    @property
    def upstream(self) -> Upstream:
        """The engine as an upstream; only after `start`."""
        assert self._upstream is not None
        return self._upstream

    @property
    def context(self) -> int | None:
        """The context of an answer in tokens: the configured size, or less if the model was trained with less."""
        settings = self.props.get("default_generation_settings")
        size = settings.get("n_ctx") if isinstance(settings, dict) else None
        return size if isinstance(size, int) else None

    @property
    def is_running(self) -> bool:
        """Whether its process is running."""
        return self._process is not None and self._process.returncode is None

    @property
    def busy(self) -> bool:
        """Whether a client waits for an answer or reads one."""
        return self.asking > 0 or any(map(_is_open, self._responses))

    def complete_request(self, body: dict[str, object]) -> dict[str, object]:
        """Return a request with the parameters that its model needs."""
        return {**(demo_request(body) if self.model.is_demo else body), **_WATCHED, "model": self.model.name}

    async def read_ahead(self, body: Mapping[str, object], path: str, has_other_owners: Callable[[], bool]) -> int:
        """Read a long prompt in slices before its request (see `chains.read_ahead`). Return the tokens read."""
        if self.context is None:
            return 0
        transport = self.upstream.require_transport()
        return await read_ahead(transport, body, path, context=self.context, has_other_owners=has_other_owners)

    def track_response(self, response: OpenResponse) -> None:
        """Count as busy until this is closed or garbage-collected."""
        self._responses = [weakref.ref(response), *filter(_is_open, self._responses)]

    async def start(self) -> None:
        """Load the model, and wait until it answers. Raises UpstreamFailed; a failure releases all resources."""
        try:
            async with asyncio.timeout(self._limits.idle_s):
                await asyncio.to_thread(check_content, self.model)
                await self._load()
        except TimeoutError:
            await self.close()
            raise UpstreamFailed(
                f"`{self.model.name}` was not loaded within {self._limits.idle_s:g} s. "
                "Use a smaller file, or raise UPSTREAM_TIMEOUT_S."
            ) from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Kill the process, which has nothing to save, and close all connections to it."""
        if self._guard is not None:
            if self.is_running:
                self._guard.cancel()
            await asyncio.wait([self._guard])  # if the process has ended, this counts and logs it
        if self._upstream is not None:
            await self._upstream.close()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            async with asyncio.timeout(_KILL_S):
                await self._process.wait()
        if self._listener is not None:
            await self._listener  # its pipe ended with the process

    async def has_ended(self) -> bool:
        """Whether its process has ended or is about to: connections break a moment before the exit."""
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EXIT_DELAY_S):
                    await self._process.wait()
        return not self.is_running

    async def until_idle(self, limit_s: float) -> bool:
        """Wait until the engine is idle; return False if the limit comes first."""
        try:
            async with asyncio.timeout(limit_s):
                while self.busy and self.is_running:  # noqa: ASYNC110 - no event signals that an answer was closed
                    await asyncio.sleep(_IDLE_POLL_S)
        except TimeoutError:
            return False
        return True

    def end_error(self) -> EngineEnded:
        """Return the error that describes why the engine ended."""
        if self._stuck:
            ended = EngineEnded(
                f"The built-in engine {self._stuck} while it ran `{self.model.name}`, and was ended. The next request "
                "starts it again. Send a shorter prompt, or a simpler schema."
            )
            ended.is_hang = True
            return ended
        code = self._process.returncode if self._process is not None else None
        return EngineEnded(
            f"The built-in engine ended while it ran `{self.model.name}` (exit code {code}{self._reason()}). "
            "The next request starts it again. If this repeats, use another model or a smaller MODEL_CONTEXT_SIZE."
        )

    async def _watch(self, process: asyncio.subprocess.Process, watch: Watchdog) -> None:
        """Detect that the process has ended or hangs, then end it. Cancelled if the engine is closed on purpose."""
        ended = asyncio.create_task(process.wait())
        stuck = asyncio.create_task(watch.until_stuck(lambda: self.busy))
        try:
            await asyncio.wait([ended, stuck], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stuck.cancel()
            ended.cancel()
            await asyncio.wait([ended, stuck])
        if process.returncode is None:
            self._stuck = stuck.result()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        self._ends["stuck" if self._stuck else "crashed",] += 1
        _log.error("%s", self.end_error().message)

    async def _load(self) -> None:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",  # ignores the working directory and PYTHON… variables: it receives our search path
            str(_PROGRAM),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            start_new_session=True,  # Ctrl-C reaches only the server, which then ends this process
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._listener = asyncio.create_task(self._listen(), name=f"engine {self.model.name}")
        key = secrets.token_urlsafe(32)
        process.stdin.write(orjson.dumps(self._parameters(key)) + b"\n")
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        line = await process.stdout.readline()
        started: EngineReport = orjson.loads(line) if line else {"error": "ended"}
        if "error" in started:
            raise await self._failure(started)
        self._output.clear()
        self.props = started["props"]
        self._upstream = Upstream(
            started["url"],
            api_key=key,
            limits=self._limits,
            max_reply_tokens=self._config.reply_limit(self.model),
            outcomes=self._outcomes,
        )
        self._upstream.overflow_advice = self._overflow_advice()
        await self._upstream.open()
        self.started_at = time.monotonic()
        watch = Watchdog(
            f"{started['url'].removesuffix('/v1')}/slots",
            {"Authorization": f"Bearer {key}"},
            model_bytes=self.model.path.stat().st_size,
            longest_s=self._limits.idle_s,
        )
        self._guard = asyncio.create_task(self._watch(process, watch), name=f"watch {self.model.name}")

    def _overflow_advice(self) -> str:
        wanted = self._config.context_size
        if self.context is not None and self.context < wanted:
            return f"MODEL_CONTEXT_SIZE is {wanted}, but `{self.model.name}` was trained with {self.context} tokens."
        return f"MODEL_CONTEXT_SIZE is {wanted}; raise it to allow longer prompts."

    def _parameters(self, key: str) -> EngineSettings:
        return {
            "search_path": list(filter(None, sys.path)),
            "path": str(self.model.path.absolute()),
            "name": self.model.name,
            "demo": self.model.is_demo,
            "key": key,
            "context_size": self._config.context_size,
            "parallel": self._config.parallel,
            "threads": self._config.threads,
            "batch": _BATCH,
            "cache_mib": _CACHE_MIB,
        }

    async def _failure(self, report: EngineReport) -> UpstreamFailed:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_S):  # then all of its output has been read, too
                await self._process.wait()
                await asyncio.shield(self._listener or asyncio.sleep(0))
        if report["error"] == "import":
            return UpstreamFailed(
                f"The built-in engine does not run on this platform: {report['why']}. {OTHER_SERVER_ADVICE}"
            )
        if report["error"] == "ended":
            code = self._process.returncode
            return UpstreamFailed(
                f"The engine ended while it loaded `{self.model.name}` (exit code {code}{self._reason()}). "
                f"Is there enough memory for it? Use a smaller file, or a smaller MODEL_CONTEXT_SIZE."
            )
        return UpstreamFailed(f"`{self.model.name}` cannot be loaded{self._reason() or ': ' + report['why']}.")

    def _reason(self) -> str:
        """Return the first error in its output, without llama.cpp's mark and time; empty if there is none."""
        error = next((line for line in self._output if " E " in line or "ASSERT" in line), "")
        return f": {error.partition(' E ')[2] or error}".rstrip(". ") if error else ""

    async def _listen(self) -> None:
        """Read the log of llama.cpp: an unread pipe would block it when full."""
        assert self._process is not None
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # longer than the buffer
                continue
            if not line:
                return
            text = line.decode(errors="replace").strip()
            if text:
                self._output.append(text)
                _log.debug("%s: %s", self.model.name, text)


def _is_open(reference: "weakref.ref[OpenResponse]") -> bool:
    response = reference()
    return response is not None and not response.closed
