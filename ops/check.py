"""`threadhold check`: checks settings, models, store, disk and port, and prints a line for each finding.

Invariants: nothing is written. Without `--ask`, no model is loaded and upstreams are only asked for their models. A
finding that does not prevent a start is a warning and leaves the exit code at 0.
"""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from api.serving import open_port
from chains import Builtin, RoutedUpstream
from chains.embedders import choose_embedder, words_only_notice
from chains.gguf import check_content, find_models
from ops.factories import Factories, ServerSettings
from ops.owners import describe_inaccessible, key_owners
from ops.question import ask
from ops.terminal import print_line
from store.path_conflicts import find_path_conflict, nearest_existing
from store.ports import Maintenance, StoredKey
from telemetry.masking import mask_secrets
from wire.errors import InvalidSetting, Problem, ThreadholdError, UpstreamFailed

if TYPE_CHECKING:
    from chains import ModelRouter

__all__ = ["Finding", "run_check"]

_MIN_FREE: Final = 100 * 1000 * 1000  # bytes: less is an error
_LOW_FREE: Final = 1000 * 1000 * 1000  # bytes: less is a warning
_LISTING_S: Final = 20.0
_NAMED: Final = 5

State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, in a sentence."""

    about: str
    state: State
    text: str


def run_check(settings: ServerSettings, factories: Factories, *, ask_model: bool = False) -> int:
    """Print a line per finding; return exit code 1 if a check failed. `ask_model` also asks the model one question."""
    logging.basicConfig(level=logging.CRITICAL)  # the findings below report what upstreams would log
    findings, mask = [], mask_secrets(settings.secrets)
    for finding in _findings(settings, factories, ask_model=ask_model):
        print_line(f"{finding.state:<8}{finding.about:<10}{mask(finding.text)}")
        findings.append(finding)
    wrong = sum(finding.state == "wrong" for finding in findings)
    print_line(f"{wrong} of {len(findings)} checks failed" if wrong else "all checks passed")
    return 1 if wrong else 0


def _findings(settings: ServerSettings, factories: Factories, *, ask_model: bool) -> Iterator[Finding]:
    yield from _settings(settings)
    yield from (Finding("settings", "warning", warning) for warning in settings.ignored_entries)
    yield from asyncio.run(_models(settings, factories, ask_model=ask_model))
    yield from _app(settings, factories)
    served = False
    try:
        maintenance = settings.database.maintenance
        served = maintenance.in_use()
        yield from _store(maintenance, settings)
        yield _folder("files", settings.data_dir / "files")
        yield _disk(maintenance.folder or settings.data_dir)
    except ThreadholdError as error:
        yield Finding("store", "wrong", error.message)
    yield _port(settings.host, settings.port, served=served)


def _settings(settings: ServerSettings) -> Iterator[Finding]:
    try:
        settings.check()
    except InvalidSetting as error:
        yield from (Finding("settings", "wrong", fault) for fault in error.message.splitlines())
    else:
        yield _usable(settings)


def _app(settings: ServerSettings, factories: Factories) -> Iterator[Finding]:
    """Build the app as a start does, unless an earlier finding already prevents that."""
    try:
        settings.check()
        factories.router(settings)
    except ThreadholdError:
        return
    try:
        factories.app(settings)
    except ThreadholdError as error:
        yield from (Finding("start", "wrong", fault) for fault in error.message.splitlines())


def _usable(settings: ServerSettings) -> Finding:
    if settings.unused:
        return Finding("settings", "warning", f"{', '.join(settings.unused)}: not built yet, and not used")
    if settings.model_url and settings.model_path is not None:
        return Finding("settings", "warning", "MODEL_PATH is not used, as MODEL_URL is set")
    stored: list[StoredKey] = []
    with suppress(ThreadholdError):  # the store's own check reports it
        stored = settings.database.keys.all()
    now = time.time()
    valid = [key.owner for key in stored if key.state(now) == "active"]
    owners = len({*settings.api_keys.values(), *valid})
    access = f"{len(settings.api_keys)} API keys and {len(valid)} stored keys of {owners} owners"
    if not settings.api_keys and not stored:
        access = "open to this machine, without keys"
    ignoring = "; unknown fields of requests are ignored" if settings.unknown_fields == "ignore" else ""
    return Finding("settings", "ok", f"{access}{ignoring}")


# --- models ---------------------------------------------------------------------------------------------------------


async def _models(settings: ServerSettings, factories: Factories, *, ask_model: bool) -> list[Finding]:
    try:
        router = factories.router(settings)
    except ThreadholdError as error:
        return [Finding("models", "wrong", error.message)]
    await router.open()
    try:
        findings = list(await asyncio.gather(*(_upstream(upstream, settings) for upstream in router.upstreams)))
        default = _default_model(settings.default_model, router)
        findings += [default] if default is not None else []
        search = _embeddings(settings.embeddings_model, router)
        findings += [search] if search is not None else []
        if ask_model:
            answered, text = await ask(router, settings.default_model)
            findings.append(Finding("answer", "ok" if answered else "wrong", text))
        return findings
    finally:
        await router.close()


async def _upstream(upstream: RoutedUpstream, settings: ServerSettings) -> Finding:
    about = upstream.name or ("engine" if isinstance(upstream.source, Builtin) else "models")
    try:
        async with asyncio.timeout(_LISTING_S):
            if isinstance(upstream.source, Builtin):
                for model in await asyncio.to_thread(find_models, settings.model_path):
                    await asyncio.to_thread(check_content, model)
            if (fault := await upstream.source.check()) is not None:
                return Finding(about, "wrong", fault)
            names = list(upstream.models) or [str(entry["id"]) for entry in await upstream.source.models()]
    except TimeoutError:
        return Finding(about, "wrong", f"it did not answer within {_LISTING_S:g} s")
    except Problem as problem:
        return Finding(about, "warning", f"it answers, but lists no models: {problem.message}")
    except UpstreamFailed as error:
        return Finding(about, "wrong", error.message)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return Finding(
        about, "ok" if names else "warning", f"{', '.join(names[:_NAMED])}{more}" if names else "none listed"
    )


def _default_model(name: str, router: "ModelRouter") -> Finding | None:
    """Return a warning if no upstream lists DEFAULT_MODEL. An engine can accept a name that it does not list."""
    listed = [name for upstream in router.upstreams for name in upstream.names()]
    known = {*listed, *(upstream.qualified(model) for upstream in router.upstreams for model in upstream.names())}
    if not name or not listed or name in known or name.rpartition("/")[2] in known:
        return None
    return Finding("default", "warning", f"DEFAULT_MODEL is {name}, which is not among the {len(listed)} models listed")


def _embeddings(setting: str, router: "ModelRouter") -> Finding | None:
    """Report which model embeds files. None if EMBEDDINGS_MODEL cannot be used, which `_app` reports."""
    try:
        embedder = choose_embedder(setting, router)
    except ThreadholdError:
        return None
    if embedder is None:
        return Finding("search", "warning", words_only_notice())
    return Finding("search", "ok", f"files are searched by words and by vectors of {embedder.name}")


# --- store, disk, port ----------------------------------------------------------------------------------------------


def _store(maintenance: Maintenance, settings: ServerSettings) -> Iterator[Finding]:
    status = maintenance.status()
    if status.state != "present":
        yield Finding("store", "ok" if status.state == "new" else "wrong", status.text)
        return
    with maintenance.snapshot(any_schema=True, untouched=True) as snapshot:
        threads, messages = snapshot.counts()
        lost = describe_inaccessible(snapshot.owners(), key_owners(settings))
    used = "in use by a server" if maintenance.in_use() else "not in use"
    yield Finding("store", "ok", f"{status.text}: {threads} threads, {messages} messages, {used}")
    if lost is not None:
        yield Finding("store", "warning", lost)


def _folder(about: str, folder: Path) -> Finding:
    if (conflict := find_path_conflict("The folder", folder.expanduser().absolute(), is_folder=True)) is not None:
        return Finding(about, "wrong", conflict)
    nearest = nearest_existing(folder.expanduser().absolute())
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding(about, "wrong", f"no permission to write in {nearest}")
    return Finding(about, "ok", str(folder))


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(nearest_existing(folder)).free
    state: State = "wrong" if free < _MIN_FREE else "warning" if free < _LOW_FREE else "ok"
    needed = "" if state == "ok" else f"; at least {_MIN_FREE / 1e6:.0f} MB are needed"
    return Finding("disk", state, f"{free / 1e9:.1f} GB free at {folder}{needed}")


def _port(host: str, port: int, *, served: bool) -> Finding:
    try:
        open_port(host, port).close()
    except OSError as error:
        if served:
            return Finding("port", "ok", f"{host}:{port} is in use, most likely by the server that uses the store")
        return Finding("port", "wrong", str(error))
    return Finding("port", "ok", f"{host}:{port} is free")
