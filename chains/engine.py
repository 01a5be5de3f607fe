"""One model, loaded: llama.cpp in a process of its own that nobody has to start, on a free port of 127.0.0.1.

Laws: it listens for this server alone (a random key, no page, no foreign origins); it ends with the server, whatever
ends that; loading it never holds the server up, and can be given up at any moment; what it says when it fails is told.
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
from typing import Any, Final, Protocol

import orjson

from chains.demo import DEMO_REPLY_TOKENS, demo_request
from chains.engine_watch import Watch
from chains.gguf import Gguf, check_content
from chains.read_ahead import read_ahead
from chains.transport import CallLimits
from chains.upstream import Upstream
from telemetry.metrics import Counts
from wire.errors import UpstreamFailed

__all__ = ["ELSEWHERE", "Engine", "EngineEnded", "Shape", "Use"]

ELSEWHERE: Final = "Set MODEL_URL to an OpenAI-compatible server, such as http://127.0.0.1:8080/v1."

_PROGRAM: Final = Path(__file__).with_name("llama.py")
_BATCH: Final = 256  # tokens of a prompt at a time; one that is given up goes on till the end of its batch
_CACHE_MIB: Final = 1_024  # of prompts that lost their place to others; llama.cpp's own 8 GiB are a server's
_REPLY_TOKENS: Final = 1_024  # of a reply that nobody has limited: a small model may find no end
# llama.cpp notices that a reader has left when it writes, so it is made to write after each batch of a prompt. It also
# looks each second when it has nothing to write, but starts that second anew whenever any answer goes on.
_WATCHED: Final = {"return_progress": True}
_KILL_S: Final = 5.0
_LAST_BREATH_S: Final = 1.0  # a crash breaks connections up to half a second before the exit
_IDLE_LOOK_S: Final = 0.05
_KEPT_LINES: Final = 50
_LINE_BYTES: Final = 4 * 1024 * 1024  # its template is in `props`

_log = logging.getLogger("threadhold.engine")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a model is run: tokens of context for each answer, answers made at once, threads of a computation.

    Without `max_reply_tokens`, each model has a limit of its own; see `reply_limit`.
    """

    context_size: int = 8_192
    parallel: int = 2
    threads: int = 1
    max_reply_tokens: int | None = None

    def reply_limit(self, model: Gguf) -> int:
        """Return how many tokens an answer can have if its request sets no limit."""
        return self.max_reply_tokens or (DEMO_REPLY_TOKENS if model.is_demo else _REPLY_TOKENS)


class EngineEnded(UpstreamFailed):
    """The engine's process ended, or was ended because it hung (`is_hang`), while it worked on a request. `was_sole`
    means that it worked for no other owner meanwhile."""

    is_hang = False

    def may_recur(self, body: Mapping[str, Any]) -> bool:
        """Return whether the request has a grammar that can have made the engine hang; a retry would make others
        wait."""
        return self.is_hang and (body.get("response_format") is not None or body.get("tools") is not None)

    was_sole = False


class Use(Protocol):
    """What keeps an engine busy until it is closed: an answer or a passage that is read."""

    @property
    def closed(self) -> bool:
        """Whether nobody reads it any more."""
        ...


class Engine:
    """A loaded model. `start` before use, `close` after; `upstream` is the way to it."""

    def __init__(self, model: Gguf, shape: Shape, limits: CallLimits, outcomes: Counts, ends: Counts) -> None:
        """Starts nothing. `outcomes` counts requests across successive engines; `ends` counts ends of their processes,
        by themselves ("crashed") or because they hung ("stuck")."""
        self.model = model
        self.leaving = False  # it takes no more requests, and makes room when it has answered those it has
        self.asking = 0  # requests that have no answer yet
        self.props: dict[str, Any] = {}  # llama.cpp's own, of the time of loading
        self._shape = shape
        self._limits = limits
        self._outcomes = outcomes
        self._uses: list[weakref.ref[Use]] = []
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._ends = ends
        self._guard: asyncio.Task[None] | None = None
        self._stuck = ""
        self.started_at = 0.0
        """When it was ready, in monotonic seconds."""
        self._upstream: Upstream | None = None

    @property
    def upstream(self) -> Upstream:
        """The upstream that it is; only once it is started."""
        assert self._upstream is not None
        return self._upstream

    @property
    def context(self) -> int | None:
        """The context of an answer in tokens: what was asked for, or less where the model was trained with less."""
        told = (self.props.get("default_generation_settings") or {}).get("n_ctx")
        return told if isinstance(told, int) else None

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer or reads one."""
        return self.asking > 0 or any(map(_is_open, self._uses))

    def complete_request(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a request with what its model needs."""
        return {**(demo_request(body) if self.model.is_demo else body), **_WATCHED, "model": self.model.name}

    async def read_ahead(self, body: Mapping[str, Any], path: str, has_company: Callable[[], bool]) -> int:
        """Read a long prompt in slices before its request, see `chains.read_ahead`. Return how many tokens it read."""
        if self.context is None:
            return 0
        transport = self.upstream.require_transport()
        return await read_ahead(transport, body, path, context=self.context, has_company=has_company)

    def use(self, use: Use) -> None:
        """Count as busy until this is closed, or forgotten."""
        self._uses = [weakref.ref(use), *filter(_is_open, self._uses)]

    async def start(self) -> None:
        """Load the model and wait until it answers. Raises UpstreamFailed; gives everything back when it fails."""
        try:
            async with asyncio.timeout(self._limits.idle_s):
                await asyncio.to_thread(check_content, self.model)
                await self._load()
        except TimeoutError:
            await self.close()
            raise UpstreamFailed(
                f"`{self.model.name}` was not loaded within {self._limits.idle_s:g} s. "
                "Take a smaller file, or raise UPSTREAM_TIMEOUT_S."
            ) from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Kill the process, which has nothing to save, and close the connections to it."""
        if self._guard is not None:
            if self.alive:
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
            await self._listener  # its pipe has ended with the process

    async def has_ended(self) -> bool:
        """Whether its process has ended, also when it is just about to: a connection breaks a moment earlier."""
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_BREATH_S):
                    await self._process.wait()
        return not self.alive

    async def until_idle(self, limit_s: float) -> bool:
        """Wait until nobody uses it; False when the limit came first."""
        try:
            async with asyncio.timeout(limit_s):
                while self.busy and self.alive:  # noqa: ASYNC110 - nothing tells when an answer is closed
                    await asyncio.sleep(_IDLE_LOOK_S)
        except TimeoutError:
            return False
        return True

    def epitaph(self) -> EngineEnded:
        """Why it is not there any more."""
        if self._stuck:
            ended = EngineEnded(
                f"The built-in engine {self._stuck} while it ran `{self.model.name}` and was ended. The next request "
                "starts it again. Ask for less: a shorter prompt, or a simpler schema."
            )
            ended.is_hang = True
            return ended
        code = self._process.returncode if self._process is not None else None
        return EngineEnded(
            f"The built-in engine ended while it ran `{self.model.name}` (exit code {code}{self._reason()}). "
            "The next request starts it again; if this goes on, take another model or a smaller MODEL_CONTEXT_SIZE."
        )

    async def _watch(self, process: asyncio.subprocess.Process, watch: Watch) -> None:
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
        _log.error("%s", self.epitaph().message)

    async def _load(self) -> None:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",  # nothing of the working directory or of PYTHON… variables: it is sent our search path
            str(_PROGRAM),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for the server, which ends this in its own time
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._listener = asyncio.create_task(self._listen(), name=f"engine {self.model.name}")
        key = secrets.token_urlsafe(32)
        process.stdin.write(orjson.dumps(self._asked(key)) + b"\n")
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        line = await process.stdout.readline()
        told: dict[str, Any] = orjson.loads(line) if line else {"error": "ended"}
        if "error" in told:
            raise await self._failure(told)
        self._said.clear()
        self.props = told["props"]
        self._upstream = Upstream(
            told["url"],
            api_key=key,
            limits=self._limits,
            max_reply_tokens=self._shape.reply_limit(self.model),
            outcomes=self._outcomes,
        )
        self._upstream.overflow_advice = self._overflow_advice()
        await self._upstream.open()
        self.started_at = time.monotonic()
        watch = Watch(
            f"{told['url'].removesuffix('/v1')}/slots",
            {"Authorization": f"Bearer {key}"},
            model_bytes=self.model.path.stat().st_size,
            longest_s=self._limits.idle_s,
        )
        self._guard = asyncio.create_task(self._watch(process, watch), name=f"watch {self.model.name}")

    def _overflow_advice(self) -> str:
        wanted = self._shape.context_size
        if self.context is not None and self.context < wanted:
            return f"MODEL_CONTEXT_SIZE is {wanted}, but `{self.model.name}` was trained with {self.context} tokens."
        return f"MODEL_CONTEXT_SIZE is {wanted}; raise it to allow longer prompts."

    def _asked(self, key: str) -> dict[str, Any]:
        return {
            "search_path": list(filter(None, sys.path)),
            "path": str(self.model.path.absolute()),
            "name": self.model.name,
            "demo": self.model.is_demo,
            "key": key,
            "context_size": self._shape.context_size,
            "parallel": self._shape.parallel,
            "threads": self._shape.threads,
            "batch": _BATCH,
            "cache_mib": _CACHE_MIB,
        }

    async def _failure(self, told: dict[str, Any]) -> UpstreamFailed:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_S):  # then all that it had to say has been read, too
                await self._process.wait()
                await asyncio.shield(self._listener or asyncio.sleep(0))
        if told["error"] == "import":
            return UpstreamFailed(f"The built-in engine does not run on this platform: {told['why']}. {ELSEWHERE}")
        if told["error"] == "ended":
            code = self._process.returncode
            return UpstreamFailed(
                f"The engine ended while it loaded `{self.model.name}` (exit code {code}{self._reason()}). "
                f"Is there enough memory for it? Take a smaller file, or a smaller MODEL_CONTEXT_SIZE."
            )
        return UpstreamFailed(f"`{self.model.name}` cannot be loaded{self._reason() or ': ' + told['why']}.")

    def _reason(self) -> str:
        """Its first complaint, without llama.cpp's mark and time; empty where it left none."""
        complaint = next((line for line in self._said if " E " in line or "ASSERT" in line), "")
        return f": {complaint.partition(' E ')[2] or complaint}".rstrip(". ") if complaint else ""

    async def _listen(self) -> None:
        """Take in what llama.cpp writes to its log: an unread pipe would stop it when full."""
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
                self._said.append(text)
                _log.debug("%s: %s", self.model.name, text)


def _is_open(use: "weakref.ref[Use]") -> bool:
    held = use()
    return held is not None and not held.closed
