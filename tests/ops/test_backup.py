"""Backups: made while the server runs, complete, and restored by moving them to the data folder."""

import re
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from store.sqlite.backup import back_up
from tests.ops.command import command, start_command
from tests.ops.conftest import data, download, talk, thread_content, upload
from tests.process import ROOT, ServerProcess
from tests.upstream import ScriptedUpstream
from wire.errors import StoreFailed


def quietly(*_: object) -> None:
    """Replace the progress bar."""


def copy_of(folder: Path, target: Path) -> Path:
    back_up(folder / "threadhold.db", folder / "files", target, on_progress=quietly)
    return target


def test_a_backup_restored_as_documented_is_the_same_server(
    server: ServerProcess, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    thread, file = talk(server, "Hello", "Are you there?"), upload(server, b"What was said." * 1000)
    expected = thread_content(server, thread)
    with start_command(data(server), "backup", tmp_path / "kept" / "today") as process:
        out, err = process.communicate(timeout=50)
    assert (process.returncode, err) == (0, "")
    assert "the copy was verified" in out
    talk(server, "This comes later.")

    found = re.search(r"<!-- restore -->\n```sh\n(.*?)```", (ROOT / "docs/operate.md").read_text(), re.DOTALL)
    assert found
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "threadhold.db").write_text("not what it should be")
    steps = found[1].replace("/somewhere/2026-11-21", str(tmp_path / "kept" / "today"))
    subprocess.run(["sh", "-euc", steps], cwd=tmp_path, check=True, timeout=10)
    with ServerProcess(tmp_path / "data", MODEL_URL=upstream.url) as other:
        assert thread_content(other, thread) == expected
        assert download(other, file) == b"What was said." * 1000
        titles = [each["metadata"].get("title") for each in other.request("GET", "/threads")["data"]]
        assert "This comes later." not in titles
        talk(other, "It goes on.")


def test_a_backup_under_load_is_one_consistent_moment_with_its_files(server: ServerProcess, tmp_path: Path) -> None:
    kept = [upload(server, b"kept %d" % number) for number in range(5)]
    mark = f"of this test: {tmp_path}"  # other tests' threads can have any length
    stop = threading.Event()

    def work() -> None:
        number = 0
        with httpx2.Client(base_url=server.url, timeout=30) as client:
            while not stop.is_set():
                number += 1
                messages = [{"role": "user", "content": f"{number}.{part}"} for part in range(7)]
                client.post("/threads", json={"messages": messages, "metadata": {"mark": mark}})
                client.delete(f"/files/{upload(server, b'brief' * 5000)}")
                kept.append(upload(server, b"more %d" % number))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        copies = []
        for number in range(6):
            sure = list(kept)
            copies.append((sure, copy_of(data(server), tmp_path / f"copy{number}")))
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    for sure, copy in copies:
        with closing(sqlite3.connect(copy / "threadhold.db")) as database:
            marked = "SELECT id FROM threads WHERE json_extract(body, '$.metadata.mark') = ?"
            count = f"SELECT (SELECT COUNT(*) FROM messages WHERE thread_id = marked.id) FROM ({marked}) marked"
            counts = {row[0] for row in database.execute(count, [mark])}
            files = {row[0] for row in database.execute("SELECT id FROM files")}
        assert counts <= {7}, "a thread lacks some of its messages"
        assert set(sure) <= files, "an acknowledged thread is missing"
        assert {path.name for path in (copy / "files").glob("??/*") if path.suffix != ".text"} == files


def test_a_backup_has_the_files_of_its_database_despite_changes(server: ServerProcess, tmp_path: Path) -> None:
    staying, going = upload(server, b"stays"), upload(server, b"goes before the database is read")
    late: list[str] = []

    def change_files(what: str, *_: int) -> None:
        if what == "files" and not late:
            late.append(upload(server, b"comes when files were listed"))
            httpx2.delete(f"{server.url}/files/{going}")
        if what == "database" and len(late) == 1:
            late.append(upload(server, b"comes when the database was read"))
            httpx2.delete(f"{server.url}/files/{late[0]}")

    folder = data(server)
    back_up(folder / "threadhold.db", folder / "files", tmp_path / "copy", on_progress=change_files)
    with closing(sqlite3.connect(tmp_path / "copy" / "threadhold.db")) as database:
        files = {row[0] for row in database.execute("SELECT id FROM files")}
    assert {path.name for path in (tmp_path / "copy" / "files").glob("??/*") if path.suffix != ".text"} == files
    assert staying in files
    assert not {going, late[0]} & files


def test_a_backup_is_accessible_to_its_owner_only(server: ServerProcess, tmp_path: Path) -> None:
    copy = copy_of(data(server), tmp_path / "copy")
    assert copy.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in copy.rglob("*"))
    assert sorted(path.name for path in copy.iterdir()) == ["files", "threadhold.db"]
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_backup_needs_no_server(server: ServerProcess, tmp_path: Path) -> None:
    upload(server, b"alone")
    folder = copy_of(data(server), tmp_path / "data")
    done = command(folder, "backup", tmp_path / "again")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "again" / "threadhold.db").is_file()


def test_an_existing_folder_is_not_changed(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    done = command(data(server), "backup", tmp_path / "mine")
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter"]


def test_without_a_database_the_error_names_its_path(tmp_path: Path) -> None:
    done = command(tmp_path, "backup", tmp_path / "copy")
    assert done.returncode == 1
    assert str(tmp_path / "threadhold.db") in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_killed_backup_has_no_name_and_the_next_replaces_it(server: ServerProcess, tmp_path: Path) -> None:
    upload(server, b"x" * 3_000_000)
    with start_command(data(server), "backup", tmp_path / "copy") as process:
        while process.poll() is None and not (tmp_path / "copy.partial").exists():
            time.sleep(0.001)
        process.kill()
    assert not (tmp_path / "copy").exists()
    copy_of(data(server), tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_missing_or_damaged_file_is_reported_and_the_rest_kept(server: ServerProcess, tmp_path: Path) -> None:
    folder = copy_of(data(server), tmp_path / "data")
    with closing(sqlite3.connect(folder / "threadhold.db")) as database:
        first, second = (row[0] for row in database.execute("SELECT id FROM files ORDER BY seq LIMIT 2"))
    (path,) = folder.glob(f"files/??/{first}")
    path.unlink()
    (path,) = folder.glob(f"files/??/{second}")
    path.write_bytes(path.read_bytes()[::-1])
    done = command(folder, "backup", tmp_path / "copy")
    assert done.returncode == 1
    assert f"2 files are missing or damaged in `{folder / 'files'}` itself: {first}, {second}" in done.stderr
    assert (tmp_path / "copy" / "threadhold.db").is_file()


def test_a_damaged_database_is_not_backed_up(server: ServerProcess, tmp_path: Path) -> None:
    folder = copy_of(data(server), tmp_path / "data")
    with closing(sqlite3.connect(folder / "threadhold.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root, size = (
            database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'messages_list'").fetchone()[0],
            database.execute("PRAGMA page_size").fetchone()[0],
        )
    with (folder / "threadhold.db").open("rb+") as file:
        file.seek((root - 1) * size + 8)
        file.write(b"\xff" * 200)
    with pytest.raises(StoreFailed, match=r"damaged|cannot be read|could not be read"):
        copy_of(folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
