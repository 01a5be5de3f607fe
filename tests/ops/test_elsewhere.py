"""A backend brings its own database: commands and the server use it without knowing its kind."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from ops.check import run_check
from ops.factories import Factories
from ops.prune import run_prune
from server import Settings, _router, create_app
from store.free_space import Disks
from store.ports import Backend, Database, Insert, KeyAdministration, Maintenance, Row, Sharing, UsageReport
from store.sqlite.location import SqliteFile
from store.sqlite.maintenance import SqliteMaintenance
from tests.upstream import ScriptedUpstream
from wire.ids import DEFAULT_OWNER as OWNER
from wire.threads import ThreadCreate, new_thread


class _Elsewhere(SqliteMaintenance):
    is_exclusive = False
    folder = None  # type: ignore[assignment]


class _Database:
    """A SQLite file that behaves as a database on another machine, which processes share."""

    name = "other://db.example/threadhold"

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def maintenance(self) -> Maintenance:
        return _Elsewhere(self._path)

    @property
    def keys(self) -> KeyAdministration:
        return SqliteFile(self._path).keys

    @property
    def usage(self) -> UsageReport:
        return SqliteFile(self._path).usage

    def open(
        self,
        *,
        disks: Disks | None = None,  # noqa: ARG002
        has_reserve: bool = False,  # noqa: ARG002
        sharing: Sharing | None = None,  # noqa: ARG002
    ) -> AbstractAsyncContextManager[Backend]:
        return SqliteFile(self._path).open(sharing=Sharing(lease_s=60))


class _Settings(Settings):
    @property
    def database(self) -> Database:
        return _Database(self.data_dir.parent / "elsewhere" / "store.db")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with ScriptedUpstream() as upstream:
        yield _Settings(
            _env_file=None, data_dir=tmp_path / "data", model_url=upstream.url, embeddings_model="none", port=0
        )


async def test_a_server_watches_only_the_disks_that_it_writes_to(settings: Settings) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        deps = app.state.deps
        assert list(deps.disks.folders) == [settings.data_dir]
        await deps.health.probe()


async def test_a_database_that_processes_share_is_pruned_while_in_use(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with settings.database.open() as backend:
        thread = new_thread(ThreadCreate(), id="thread_old", now=1)
        await backend.records.commit([Insert(Row("thread", "thread_old", OWNER, thread))], durable=True)
        assert await asyncio.to_thread(settings.database.maintenance.in_use)
        assert await asyncio.to_thread(run_prune, settings, older_s=60.0, dry_run=False, shrink=False) == 0
        assert await backend.records.get("thread", "thread_old", OWNER) is None
    assert capsys.readouterr().out.startswith("deleted 1 threads")


def test_the_check_names_the_disk_that_grows(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run_check(settings, Factories(settings=lambda: settings, app=create_app, router=_router, version="0"))
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
    assert f"GB free at {settings.data_dir}" in lines["disk"]
    assert lines["store"].startswith("ok")
