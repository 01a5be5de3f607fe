"""The engines of the models in use: loaded on demand, at most two at a time, and restarted after they end.

Invariants: a model in use is never unloaded. A model that waits to be loaded is loaded next, however busy the others
are. If a long answer delays that, its engine accepts requests again during every other `EngineConfig.drain_s`. An
engine that ends repeatedly is restarted with a growing delay.

At most two models stay loaded: two assistants with different models can alternate without reloading them and
reprocessing their threads, and a folder of large files cannot exhaust the memory.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from chains.engine import Engine, EngineConfig
from chains.gguf import Gguf
from chains.restarts import Restarts
from chains.transport import CallLimits
from telemetry.metrics import Counts
from wire.errors import RunError, UpstreamFailed, UpstreamProblem

__all__ = ["MAX_LOADED", "Engines"]

MAX_LOADED: Final = 2

_log = logging.getLogger("threadhold.engine")


@dataclass(slots=True)
class _Load:
    """A load in progress: its task, the waiters for the engine, and its start (monotonic seconds)."""

    task: "asyncio.Task[None]"
    grants: list["asyncio.Future[Engine]"] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)


class Engines:
    """All engines. `asking` loads one if necessary; `close` ends them."""

    def __init__(
        self,
        config: EngineConfig,
        limits: CallLimits,
        *,
        find: Callable[[str], Awaitable[Gguf]],
        outcomes: Counts,
        loaded: Callable[[str, int], None],
    ) -> None:
        """Starts nothing. `find` returns the file of a name or raises RunError; `loaded` is called with the name of a
        loaded model and its context in tokens."""
        self.ends: Counts = Counts()
        """How often an engine crashed, or was ended because it was stuck."""
        self.failed: dict[str, str] = {}
        """Why the last load of a model did not succeed."""
        self._config = config
        self._limits = limits
        self._find = find
        self._outcomes = outcomes
        self._loaded = loaded
        self._engines: dict[str, Engine] = {}  # loaded ones, the most recently used last
        self._loads: dict[str, _Load] = {}
        self._restarts = Restarts()
        self._load_lock = asyncio.Lock()  # one load at a time: two would only slow each other down

    async def close(self) -> None:
        """Cancel loads in progress, and end every engine."""
        loads = [load.task for load in self._loads.values()]
        for load in loads:
            load.cancel()
        if loads:
            await asyncio.wait(loads)
        engines, self._engines = list(self._engines.values()), {}
        await asyncio.gather(*(engine.close() for engine in engines))

    def state(self, name: str) -> str:
        """Return "loaded", "loading" or "on disk"."""
        return "loaded" if name in self._engines else "loading" if name in self._loads else "on disk"

    def loading(self) -> dict[str, float]:
        """Return how many seconds each load in progress has taken so far."""
        return {name: time.monotonic() - load.begun for name, load in self._loads.items()}

    @asynccontextmanager
    async def asking(self, name: str) -> AsyncIterator[Engine]:
        """Provide an engine with that model, which stays loaded during the block. Raises RunError."""
        engine = await self._granted(name)
        try:
            yield engine
        except (RunError, UpstreamProblem) as error:
            if isinstance(error, UpstreamFailed | UpstreamProblem) and await engine.has_ended():
                raise engine.end_error() from error
            raise
        finally:
            engine.asking -= 1

    async def _granted(self, name: str) -> Engine:
        """Return the engine of a model, loading it first if necessary, and count it as in use."""
        model = await self._find(name)
        engine = self._engines.get(name)
        if engine is not None and engine.is_running and not engine.is_draining:
            self._engines[name] = self._engines.pop(name)
            engine.asking += 1
            return engine
        load = self._loads.get(name) or self._start_loading(model)
        grant: asyncio.Future[Engine] = asyncio.get_running_loop().create_future()
        load.grants.append(grant)
        limit_s = self._limits.idle_s
        try:
            # If the caller leaves, the load continues, because other callers can wait for it, too.
            async with asyncio.timeout(limit_s):
                return await grant
        except BaseException as error:
            if grant.done() and not grant.cancelled() and grant.exception() is None:
                grant.result().asking -= 1  # granted and cancelled at the same moment
            if not isinstance(error, TimeoutError):
                raise
        held = [engine.model.name for engine in self._engines.values() if engine.busy]
        names = ", ".join(f"`{each}`" for each in held)
        reason = f"; {names} had not finished answering" if held else ""
        raise UpstreamFailed(f"`{name}` was not loaded within {limit_s:g} s{reason}. Try again later.")

    def _start_loading(self, model: Gguf) -> "_Load":
        load = _Load(asyncio.create_task(self._load(model), name=f"load {model.name}"))
        self._loads[model.name] = load
        load.task.add_done_callback(lambda task: self._fail_waiters(model.name, load, task))
        return load

    def _fail_waiters(self, name: str, load: "_Load", task: "asyncio.Task[None]") -> None:
        """Fail the remaining waiters; those that got an engine are already done."""
        if self._loads.get(name) is load:
            del self._loads[name]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, UpstreamFailed):
            self.failed[name] = error.message
        for grant in load.grants:
            if not grant.done():
                grant.set_exception(error or UpstreamFailed("The built-in engine is shutting down."))

    async def _load(self, model: Gguf) -> None:
        before = self._engines.get(model.name)
        if before is not None and not before.is_running:
            self._restarts.count(model.name, before.started_at)
        await self._restarts.wait(model.name)
        async with self._load_lock:
            await self._unload_idle(model.name)
            begun = time.monotonic()
            _log.info("loading %s (%s)", model.name, model.path)
            engine = Engine(model, self._config, self._limits, self._outcomes, self.ends)
            try:
                await engine.start()
            except UpstreamFailed as error:
                _log.error("%s", error.message)
                raise
            self._engines[model.name] = engine
            self.failed.pop(model.name, None)
            if engine.context:
                self._loaded(model.name, engine.context)
            took_s = time.monotonic() - begun
            _log.info("loaded %s in %.1f s: %s tokens of context", model.name, took_s, engine.context)
            # Granted before any other load can start: otherwise a busy model could replace this one immediately.
            for grant in self._loads.pop(model.name).grants:
                if not grant.done():
                    engine.asking += 1
                    grant.set_result(engine)

    async def _unload_idle(self, name: str) -> None:
        """End engines until one more fits: those that ended by themselves or have that name, then those idle longest,
        then the one used longest ago, once it has answered its requests."""
        for known, engine in list(self._engines.items()):
            if known == name or not engine.is_running:
                await self._unload(engine)
        end = time.monotonic() + self._limits.idle_s
        while len(self._engines) >= MAX_LOADED:
            engine = next((one for one in self._engines.values() if not one.busy), next(iter(self._engines.values())))
            if await self._unload(engine):
                continue
            if time.monotonic() > end:
                raise UpstreamFailed(f"`{engine.model.name}` was busy for {self._limits.idle_s:g} s. Try again later.")
            await asyncio.sleep(self._config.drain_s)

    async def _unload(self, engine: Engine) -> bool:
        """End an engine once it is idle. Return False if that takes too long; the engine then accepts requests
        again."""
        engine.is_draining = True
        is_idle = False
        try:
            is_idle = await engine.until_idle(min(self._config.drain_s, self._limits.idle_s))
        finally:
            if not is_idle and engine.is_running:
                self._accept_again(engine)
        if not is_idle and engine.is_running:
            return False
        del self._engines[engine.model.name]
        await engine.close()
        _log.info("unloaded %s", engine.model.name)
        return True

    def _accept_again(self, engine: Engine) -> None:
        """Grant the engine to requests that arrived while it was about to be unloaded."""
        engine.is_draining = False
        if (load := self._loads.pop(engine.model.name, None)) is None:
            return
        load.task.cancel()
        for grant in load.grants:
            if not grant.done():
                engine.asking += 1
                grant.set_result(engine)
