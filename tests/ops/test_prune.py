"""Pruning by the command without a server, and by a server itself."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ops.command import command
from tests.ops.conftest import data
from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream

DAY_S = 86_400


def fill(folder: Path, **days: float) -> None:
    """Import threads with a message of this age in days."""
    now = int(time.time())

    def one(name: str, age: float) -> dict[str, Any]:
        message = {"role": "user", "content": "x" * 5000, "created_at": int(now - age * DAY_S)}
        return {"id": f"thread_{name}", "created_at": int(now - age * DAY_S), "messages": [message] * 20}

    dump = "".join(json.dumps(one(*each)) + "\n" for each in days.items())
    assert command(folder, "import", "-", given=dump).returncode == 0


def left(folder: Path) -> list[str]:
    return [json.loads(line)["id"].removeprefix("thread_") for line in command(folder, "export").stdout.splitlines()]


def test_old_threads_are_deleted_and_only_counted_by_a_dry_run(tmp_path: Path) -> None:
    fill(tmp_path, old=40, older=400, new=3)
    output = command(tmp_path, "prune", "--older-than", "30d", "--dry-run").stdout
    assert output.startswith("would delete 2 threads last used before ")
    assert left(tmp_path) == ["older", "old", "new"]
    done = command(tmp_path, "prune", "--older-than", "30d")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("deleted 2 threads last used before ")
    assert left(tmp_path) == ["new"]


def test_the_file_is_compacted_on_request(tmp_path: Path) -> None:
    fill(tmp_path, **{f"old{n}": 40 for n in range(20)}, new=1)
    size = (tmp_path / "threadhold.db").stat().st_size
    done = command(tmp_path, "prune", "--older-than", "4w", "--shrink")
    assert "MB smaller" in done.stdout
    assert (tmp_path / "threadhold.db").stat().st_size < size / 5
    assert left(tmp_path) == ["new"]


def test_the_setting_is_the_default_age(tmp_path: Path) -> None:
    fill(tmp_path, old=10, new=3)
    assert "--older-than 30d" in command(tmp_path, "prune").stderr
    assert command(tmp_path, "prune", RETENTION_DAYS="7").stdout.startswith("deleted 1 threads")
    assert left(tmp_path) == ["new"]


def test_while_a_server_runs_threads_are_only_counted(server: ServerProcess) -> None:
    done = command(data(server), "prune", "--older-than", "12h")
    assert (done.returncode, "Set RETENTION_DAYS" in done.stderr) == (1, True)
    assert command(data(server), "prune", "--older-than", "12h", "--dry-run").returncode == 0


def test_a_missing_store_is_not_created(tmp_path: Path) -> None:
    done = command(tmp_path, "prune", "--older-than", "12h")
    assert (done.returncode, "There is no database" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_server_prunes_by_itself(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    fill(tmp_path, old=40, new=3)
    with ServerProcess(tmp_path, MODEL_URL=upstream.url, RETENTION_DAYS="30") as server:
        end = time.monotonic() + 60
        while "deleted 1 threads not used for 30 days" not in server.log.read_text() and time.monotonic() < end:
            time.sleep(0.1)
        assert [each["id"] for each in server.request("GET", "/threads")["data"]] == ["thread_new"]


@pytest.mark.parametrize("days", ["-1", "soon"])
def test_an_invalid_retention_is_refused(days: str, tmp_path: Path) -> None:
    done = command(tmp_path, "check", RETENTION_DAYS=days)
    assert (done.returncode, "RETENTION_DAYS" in done.stderr) == (2, True)
