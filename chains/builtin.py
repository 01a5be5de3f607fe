"""The built-in engine: an upstream that is made on demand, of the GGUF files that there are.

Laws: nothing is loaded before it is asked for, and who asks waits for it with a limit; a model in use is never
unloaded; who waits for room gets it next, however busy the others are; every answer is streamed, because those alone
does llama.cpp stop when their reader leaves, and from the begin of its prompt on.

At most two models stay loaded: two assistants on two models can take turns without loading them and reading their
threads anew each time, and a folder of large files does not fill the memory one by one.
"""

import asyncio
import contextlib
import importlib.util
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from langchain_core.messages import BaseMessage

from chains.assembly import Assembly
from chains.demo import demo_request
from chains.endpoint import Endpoint
from chains.engine import ELSEWHERE, Engine, Shape
from chains.forwarding import CHAT, GENERATING, Body, model_of, not_served, require_prompt
from chains.gguf import DEMO_NOTE, Gguf, find_models
from chains.installation import install_command
from chains.negotiation import Negotiation
from chains.passage import Passage, with_openai_error
from chains.sse import SseDecoder
from chains.transport import Patience
from chains.upstream import Upstream
from wire.errors import InvalidRequest, PromptRefused, RunError, UpstreamFailed, UpstreamProblem

__all__ = ["MAX_LOADED", "Builtin"]

MAX_LOADED: Final = 2

_LIBRARY: Final = "xllamacpp"
_NOWHERE: Final = Endpoint(base="http://127.0.0.1:9/v1", query="", host="the built-in engine")
_NAMED: Final = 20
# llama.cpp notices that a reader has left when it writes, so it is made to write after each batch of a prompt. It also
# looks each second when it has nothing to write, but starts that second anew whenever any answer goes on.
_WATCHED: Final = {"return_progress": True}
_FORMED: Final = {"repeat_penalty": 1.0}
"""For answers with a form: a penalty on what was said before, quotes among it, makes strings that never end."""

_log = logging.getLogger("threadhold.engine")


@dataclass(slots=True)
class _Load:
    """A load that goes on: its task, who waits for the engine, and since when (monotonic seconds)."""

    task: "asyncio.Task[None]"
    grants: list["asyncio.Future[Engine]"] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)


class Builtin(Upstream):
    """The built-in engine, as the upstream that it stands in for. `open` before use, `close` after."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        shape: Shape | None = None,
        timeout_s: float = 600.0,
        aliases: Mapping[str, str] | None = None,
        default_model: str = "",
        patience: Patience | None = None,
    ) -> None:
        """Loads nothing. `path` is a GGUF file or a folder of them; without it the demo model is taken.

        `timeout_s` limits the wait for a model, and its silence.
        """
        super().__init__(None, timeout_s=timeout_s, aliases=aliases, default_model=default_model, patience=patience)
        self.endpoint = _NOWHERE
        self._path = path
        self._shape = shape or Shape()
        self._files: dict[str, Gguf] = {}
        self._engines: dict[str, Engine] = {}  # loaded, the one used last at the end
        self._loads: dict[str, _Load] = {}
        self._failed: dict[str, str] = {}  # why the last load did not succeed
        self._room = asyncio.Lock()  # one load at a time: two would only slow each other down

    # --- what an upstream does ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Look which models there are, and say it. A machine without any starts all the same."""
        try:
            names = list(await self._look())
        except UpstreamFailed as error:
            _log.warning("no model: %s", error.message)
            return
        if not any(model.is_demo for model in self._files.values()):
            _log.info("models: %s (loaded when they are asked for)", _spelled(names))

    async def close(self) -> None:
        """Give up what is being loaded, and end every engine."""
        loads = [load.task for load in self._loads.values()]
        for load in loads:
            load.cancel()
        if loads:
            await asyncio.wait(loads)
        engines, self._engines = list(self._engines.values()), {}
        await asyncio.gather(*(engine.close() for engine in engines))
        await super().close()

    async def resolve(self, model: str) -> str:
        """Return the name of a model that there is. Where there is one alone, every name means it.

        Raises UpstreamFailed when there is none, PromptRefused when none of several has the name.
        """
        return (await self._find(await self._models.resolve(model))).name

    async def models(self) -> list[dict[str, Any]]:
        """Return an entry for each file; empty where there is none. Loads nothing."""
        try:
            return await self._fetch_models()
        except UpstreamFailed:
            return []

    def names(self) -> list[str]:
        """The models that there were when they were last looked for."""
        return list(self._files)

    def context_limit(self, model: str) -> int | None:
        """Return a model's context in tokens once it was loaded, by any name that means it."""
        return super().context_limit(self._known(model))

    def learn_limit(self, model: str, limit: int) -> None:
        """Remember a context limit in tokens that a refusal told."""
        super().learn_limit(self._known(model), limit)

    async def ask_limit(self, model: str) -> int | None:
        """Return a model's context in tokens, loaded first where it is not. Raises RunError."""
        await self.at(model)
        return self.context_limit(await self.resolve(model))

    async def count_tokens(
        self, model: str, messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]]
    ) -> int | None:
        """Return how many tokens a prompt is. Raises RunError where the model cannot be loaded."""
        name, upstream = await self.resolve(model), await self.at(model)
        await upstream.ask_limit(name)
        return await upstream.count_tokens(name, messages, tools)

    async def check(self) -> str | None:
        """Return None when a model is loaded or could be, else what hinders it, or what is being loaded."""
        try:
            await self._look()
        except UpstreamFailed as error:
            return error.message
        for name, load in self._loads.items():
            return f"loading `{name}` for {time.monotonic() - load.begun:.0f} s"
        return next(iter(self._failed.values()), None)

    async def answer(self, payload: dict[str, Any], negotiation: Negotiation | None = None) -> aiohttp.ClientResponse:
        """Load the model if it is not, and post a completion; returns the 2xx answer unread. Raises RunError."""
        async with self._asking(str(payload.get("model") or "")) as engine:
            response = await engine.upstream.answer(
                {**_completed(engine, payload), **(_FORMED if payload.get("response_format") else {})}, negotiation
            )
            engine.use(response)
            return response

    async def pass_through(self, body: Body, path: str = CHAT) -> Passage:
        """Answer a client's `/chat/completions` or `/completions` body.

        Raises InvalidRequest, UpstreamProblem, NotFound for any other path.
        """
        if path not in GENERATING or not isinstance(body, dict):
            raise not_served(path, "The built-in engine")
        model = model_of(body)
        require_prompt(body, path)
        try:
            async with self._asking(await self.resolve(model)) as engine:
                asked = {**_completed(engine, body), "model": engine.model.name}
                if not body.get("stream"):
                    return with_openai_error(await _whole(engine.upstream, asked, path))
                passage = with_openai_error(await engine.upstream.pass_through(asked, path))
                engine.use(passage)
                return passage
        except PromptRefused as error:
            raise InvalidRequest(error.message, param="model", code="model_not_found") from error
        except RunError as error:
            raise UpstreamProblem(error.message, http_status=503) from error

    async def at(self, model: str) -> Upstream:
        """Load a model, by any name of it, and return the plain upstream that it then is. Raises RunError.

        For questions only (`/props`, `/tokenize`): it does not keep the model from being unloaded.
        """
        async with self._asking(await self.resolve(model)) as engine:
            return engine.upstream

    async def props(self, model: str) -> dict[str, Any] | None:
        """Return the `/props` of a model, loaded for it. None where it cannot be."""
        try:
            async with self._asking(await self.resolve(model)) as engine:
                return engine.props
        except RunError:
            return None

    async def _fetch_models(self) -> list[dict[str, Any]]:
        return [self._entry(model) for model in (await self._look()).values()]

    # --- files ----------------------------------------------------------------------------------------------------

    async def _look(self) -> dict[str, Gguf]:
        """Look which models there are now, by name. Raises UpstreamFailed when there is none, or no engine."""
        self._files = await asyncio.to_thread(_models_at, self._path)
        return self._files

    async def _find(self, name: str) -> Gguf:
        files = self._files
        if name not in files:
            files = await self._look()
        if name in files:
            return files[name]
        if len(files) == 1:
            return next(iter(files.values()))
        raise PromptRefused(
            f"There is no model `{name}` at MODEL_PATH. There are {_spelled(list(files))}: use one of these, or map "
            "the name with MODEL_ALIASES."
        )

    def _known(self, model: str) -> str:
        """The name that `resolve` would find, as far as that is known without waiting."""
        name = self._models.known_as(model)
        return next(iter(self._files)) if name not in self._files and len(self._files) == 1 else name

    def _entry(self, model: Gguf) -> dict[str, Any]:
        loaded = self._engines.get(model.name)
        state = "loaded" if loaded else "loading" if model.name in self._loads else "on disk"
        told: dict[str, Any] = {"demo": model.is_demo, "state": state, "vision": False}  # no projector is loaded
        if model.is_demo:
            told["note"] = f"This is {DEMO_NOTE}."
        entry = {"id": model.name, "object": "model", "created": 0, "owned_by": "threadhold", "threadhold": told}
        limit = self.context_limit(model.name)
        return {**entry, "context_length": limit} if limit else entry

    # --- engines --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _asking(self, name: str) -> AsyncIterator[Engine]:
        """An engine with that model, kept while the block asks it. Raises RunError."""
        engine = await self._granted(name)
        try:
            yield engine
        except (RunError, UpstreamProblem) as error:
            if isinstance(error, UpstreamFailed | UpstreamProblem) and await engine.has_ended():
                raise engine.epitaph() from error
            raise
        finally:
            engine.asking -= 1

    async def _granted(self, name: str) -> Engine:
        """Return the engine of a model, loaded first where it is not, and counted as being asked."""
        if name not in self._engines and name not in self._loads:
            await self._find(name)
        engine = self._engines.get(name)
        if engine is not None and engine.alive and not engine.leaving:
            self._engines[name] = self._engines.pop(name)
            engine.asking += 1
            return engine
        load = self._loads.get(name) or self._begin(self._files[name])
        grant: asyncio.Future[Engine] = asyncio.get_running_loop().create_future()
        load.grants.append(grant)
        limit_s = self.patience.idle_s
        try:
            # who asks may leave; the load goes on, as others may wait for it as well
            async with asyncio.timeout(limit_s):
                return await grant
        except BaseException as error:
            if grant.done() and not grant.cancelled() and grant.exception() is None:
                grant.result().asking -= 1  # granted, and given up in the same moment
            if not isinstance(error, TimeoutError):
                raise
        held = [engine.model.name for engine in self._engines.values() if engine.busy]
        told = f"; {_spelled(held)} had not ended their answers" if held else ""
        raise UpstreamFailed(f"`{name}` was not loaded within {limit_s:g} s{told}. Try again later.")

    def _begin(self, model: Gguf) -> "_Load":
        load = _Load(asyncio.create_task(self._load(model), name=f"load {model.name}"))
        self._loads[model.name] = load
        load.task.add_done_callback(lambda task: self._tell(model.name, load, task))
        return load

    def _tell(self, name: str, load: "_Load", task: "asyncio.Task[None]") -> None:
        """Tell those who wait that nothing comes; those who got an engine know it already."""
        if self._loads.get(name) is load:
            del self._loads[name]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, UpstreamFailed):
            self._failed[name] = error.message
        for grant in load.grants:
            if not grant.done():
                grant.set_exception(error or UpstreamFailed("The built-in engine is being closed."))

    async def _load(self, model: Gguf) -> None:
        async with self._room:
            await self._make_room(model.name)
            begun = time.monotonic()
            _log.info("loading %s (%s)", model.name, model.path)
            engine = Engine(model, self._shape, self.patience, self.outcomes)
            try:
                await engine.start()
            except UpstreamFailed as error:
                _log.error("%s", error.message)
                raise
            self._engines[model.name] = engine
            self._failed.pop(model.name, None)
            if engine.context:
                self.learn_limit(model.name, engine.context)
            took_s = time.monotonic() - begun
            _log.info("loaded %s in %.1f s: %s tokens of context", model.name, took_s, engine.context)
            # Granted before anybody else can make room: else a busy model could take this one's place at once.
            for grant in self._loads.pop(model.name).grants:
                if not grant.done():
                    engine.asking += 1
                    grant.set_result(engine)

    async def _make_room(self, name: str) -> None:
        """End engines till there is room for one more: what ended by itself or is loaded under that name, then those
        idle longest, then, when it has answered what it was asked, the one asked longest ago."""
        for known, engine in list(self._engines.items()):
            if known == name or not engine.alive:
                await self._unload(engine)
        while len(self._engines) >= MAX_LOADED:
            engine = next((one for one in self._engines.values() if not one.busy), next(iter(self._engines.values())))
            await self._unload(engine)

    async def _unload(self, engine: Engine) -> None:
        engine.leaving = True
        try:
            if not await engine.until_idle(self.patience.idle_s):
                raise UpstreamFailed(f"`{engine.model.name}` was busy for {self.patience.idle_s:g} s. Try again later.")
        except BaseException:
            engine.leaving = False
            raise
        del self._engines[engine.model.name]
        await engine.close()
        _log.info("unloaded %s", engine.model.name)


def _models_at(path: Path | None) -> dict[str, Gguf]:
    """The models by name. Blocks. Raises UpstreamFailed when there is none, or no engine to run it."""
    try:
        installed = importlib.util.find_spec(_LIBRARY) is not None
    except (ImportError, ValueError):
        installed = False
    if not installed:
        raise UpstreamFailed(
            f"The built-in engine is not installed. Install it with `{install_command()}`, or use another: {ELSEWHERE} "
            f"(`{_LIBRARY}` has no wheels for some platforms.)"
        )
    return {model.name: model for model in find_models(path)}


def _completed(engine: Engine, body: dict[str, Any]) -> dict[str, Any]:
    """A request with what its model needs."""
    return {**(demo_request(body) if engine.model.is_demo else body), **_WATCHED}


async def _whole(upstream: Upstream, body: dict[str, Any], path: str) -> Passage:
    """Stream an answer and put it together: see `chains/assembly.py`. Raises UpstreamProblem."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    passage = await upstream.pass_through(asked, path)
    if passage.body is not None:  # refused
        return passage
    assembly, decoder = Assembly(), SseDecoder()
    with contextlib.closing(passage):
        async for block in passage.blocks():
            for payload in decoder.feed(block):
                assembly.add(payload)
        for payload in decoder.end():
            assembly.add(payload)
    whole = assembly.whole()
    if whole is not None and assembly.error is None:
        return Passage(200, "application/json", passage.headers, orjson.dumps(whole))
    error = assembly.error["error"] if assembly.error else None
    status = error.get("code") if isinstance(error, dict) else None
    if not isinstance(status, int):
        raise UpstreamProblem("the built-in engine ended its answer early", http_status=502)
    refused = Passage(status, "application/json", passage.headers, orjson.dumps(assembly.error))
    return upstream.normalize_error(refused, path)


def _spelled(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"`{name}`" for name in names[:_NAMED]) + more
