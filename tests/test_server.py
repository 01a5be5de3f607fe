"""Settings, and the errors that prevent a start."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from server import Settings
from tests.forked import run_forked
from tests.process import ROOT, ServerProcess, free_port
from wire.errors import ThreadholdError


def settings(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    words = [str(ROOT / "server.py"), *arguments]
    return run_forked(words, env={**kept, "DATA_DIR": str(folder), **environment}, cwd=folder, timeout_s=20)


def test_list_settings_are_separated_by_commas() -> None:
    one = settings(model_aliases="gpt-4o=m, *=other", api_keys="k1,ann=k2", actions_allow_hosts="a.example, 10.0.0.0/8")
    assert one.model_aliases == {"gpt-4o": "m", "*": "other"}
    assert one.api_keys == {"k1": "default", "k2": "ann"}
    assert one.actions_allow_hosts == ("a.example", "10.0.0.0/8")


@pytest.mark.parametrize(
    "given",
    [
        {"model_aliases": "gpt-4o"},
        {"api_keys": "ann="},
        {"api_keys": "a=k,b=k"},
        {"api_keys": "sk-abc=="},
        {"port": 70000},
        {"drain_s": -1},
    ],
)
def test_an_invalid_setting_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_open_mode_requires_a_loopback_address() -> None:
    with pytest.raises(ThreadholdError, match="API_KEYS"):
        settings(host="0.0.0.0").check()
    settings(host="0.0.0.0", api_keys="k").check()
    settings(host="127.0.0.1").check()


@pytest.mark.parametrize(
    ("url", "path"), [("sqlite:///a/b.db", "a/b.db"), ("sqlite:////abs/b.db", "/abs/b.db"), ("", "data/threadhold.db")]
)
def test_the_database_file_comes_from_the_url(url: str, path: str) -> None:
    assert settings(database_url=url).database.name == path


@pytest.mark.parametrize("url", ["postgres://u:secret@h/db", "u:secret@h/db", "sqlite://", "http://["])
def test_an_unsupported_database_url_is_refused(url: str) -> None:
    with pytest.raises(ThreadholdError) as caught:
        settings(database_url=url).check()
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HOST": "0.0.0.0"}, "API_KEYS is empty"),
        ({"DATABASE_URL": "postgres://postgres:secret@localhost:5432/mydatabase"}, "only SQLite is supported"),
        ({"MODEL_ALIASES": "oops"}, "MODEL_ALIASES"),
        ({"PORT": "x"}, "PORT"),
        ({"MODEL_URL": "ftp://host/v1"}, "MODEL_URL"),
        ({"MODEL_URL": "http://["}, "MODEL_URL"),
        ({"DATA_DIR": "/proc/none"}, "could not be opened"),
    ],
    ids=["open to the network", "postgres", "alias", "port", "model url", "broken url", "data folder cannot be made"],
)
def test_a_start_that_must_fail_is_reported_without_a_traceback(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    done = start(tmp_path, **environment)
    assert done.returncode == (1 if "DATA_DIR" in environment else 2), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("threadhold.toml", b"[x", "threadhold.toml is not TOML: "),
        ("threadhold.toml", "port = 1".encode("utf-16"), "threadhold.toml is not UTF-8"),
        (".env", "PORT=1".encode("utf-16"), ".env is not UTF-8"),
        (".env", None, ".env cannot be read: Is a directory."),
        (
            "threadhold.toml",
            b"[upstreams.gpu]\nulr = 'http://x'",
            "[upstreams.gpu]: `ulr` is not a setting. Use `url`, `api_key`, ",
        ),
    ],
    ids=["no toml", "toml in UTF-16", "env in UTF-16", "a folder", "a wrong key"],
)
def test_an_unreadable_settings_file_is_reported_in_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    (tmp_path / name).mkdir() if content is None else (tmp_path / name).write_bytes(content)
    for word in ("serve", "check"):
        done = start(tmp_path, word)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert done.stderr.startswith(f"threadhold: {words}")
        assert done.stderr.count("\n") == 1


def test_requests_during_a_failed_start_get_openai_s_error_shape(tmp_path: Path) -> None:
    (tmp_path / "threadhold.db").write_text("no database " * 100)
    port = free_port()
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "PORT": str(port)}
    command = [sys.executable, str(ROOT / "server.py")]
    with (
        subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process,
        httpx2.Client(timeout=20) as client,
    ):
        while True:
            with contextlib.suppress(httpx2.ConnectError):
                answer = client.get(f"http://127.0.0.1:{port}/v1/threads")
                break
            time.sleep(0.02)
        _, error_output = process.communicate(timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert process.returncode == 1
    assert "file is not a database" in error_output
    assert "Exception" not in error_output


def test_unencrypted_upstreams_are_allowed_on_local_addresses() -> None:
    for host in ("127.0.0.2", "::1", "localhost"):
        settings(host=host).check()
    for host in ("", "0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(ThreadholdError, match="API_KEYS"):
            settings(host=host).check()


def test_an_empty_setting_means_no_limit() -> None:
    one = settings(max_runs_per_owner="", max_reply_tokens="", api_keys=["a", "ann=b"])
    assert (one.max_runs_per_owner, one.max_reply_tokens) == (None, None)
    assert one.api_keys == {"a": "default", "b": "ann"}


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        other = tmp_path / "other"
        other.mkdir()
        done = start(other, "--port", str(server.port))
        assert (done.returncode, str(server.port) in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_a_second_server_on_one_database_is_refused(tmp_path: Path) -> None:
    with ServerProcess(tmp_path):
        done = start(tmp_path, PORT=str(free_port()))
        assert done.returncode != 0
        assert "in use" in done.stderr
        assert "Traceback" not in done.stderr


def test_unavailable_and_unused_settings_are_logged(tmp_path: Path) -> None:
    given = {"REDIS_URL": "redis://x", "S3_ENDPOINT": "http://x", "MODEL_URL": "http://x", "MODEL_PATH": "/x"}
    with ServerProcess(tmp_path, **given) as server:
        log = server.log.read_text()
    assert log.count("not built yet") == 1
    assert "REDIS_URL, S3_ENDPOINT" in log
    assert "MODEL_PATH is not used" in log


def test_model_path_can_be_empty_or_start_with_a_tilde() -> None:
    assert settings(model_path="").model_path is None
    assert settings(model_path="~/m.gguf").model_path == Path.home() / "m.gguf"


def test_help_and_version_name_the_program() -> None:
    for argument in ("--help", "--version"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "server.py"), argument], capture_output=True, text=True, timeout=20, check=True
        )
        assert "threadhold" in done.stdout


def log_lines(folder: Path, *command: str, **settings: str) -> list[dict[str, Any]]:
    """Start a server with this command, wait until it is ready, stop it, and return its log."""
    port = free_port()
    environment = {**os.environ, "DATA_DIR": str(folder / "data"), "PORT": str(port), "LOG_FORMAT": "json", **settings}
    with (
        subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(httpx2.TransportError):
                if client.get("/").status_code == 200:
                    break
            time.sleep(0.02)
        process.terminate()
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    return [json.loads(line) for line in log.splitlines()]


SERVER = (sys.executable, str(ROOT / "server.py"))


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ({"MODEL_URL": "http://user:pw@127.0.0.1:9/v1"}, "model: the first that http://127.0.0.1:9/v1 lists"),
        ({"MODEL_URL": "http://127.0.0.1:9/v1", "DEFAULT_MODEL": "qwen"}, "model: qwen"),
        ({"UPSTREAMS": '{"gpu": {"url": "http://127.0.0.1:9/v1"}}'}, "model: gpu/…"),
        ({}, "model: SmolLM2-135M-Instruct, a demo of 135 million parameters, which knows little and only English"),
        ({"MODEL_PATH": "/none.gguf"}, "model: none; the warning above says what to do"),
    ],
    ids=["address", "default model", "upstreams", "demo", "missing file"],
)
def test_a_start_logs_page_base_url_and_model(tmp_path: Path, given: dict[str, str], model: str) -> None:
    with ServerProcess(tmp_path, LOG_FORMAT="json", **given) as server:
        server.terminate()
        assert server.wait(20) == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    said = [line["message"] for line in lines if line["logger"] == "threadhold"]
    page, base, last = said[said.index("stopping") - 3 : said.index("stopping")]
    assert page.startswith("page: http://127.0.0.1:")
    assert base.startswith(f"API base: {page.removeprefix('page: ')}v1 ")
    assert last.startswith(model)
    assert not [line for line in lines if line["logger"].startswith("uvicorn")]


def write_folders(path: Path) -> None:
    for name in (
        "api",
        "chains",
        "documents",
        "fairness",
        "graphs",
        "ops",
        "retrieval",
        "store",
        "telemetry",
        "wire",
        "workers",
        "xllamacpp",
    ):
        (path / name).mkdir()
        (path / name / "__init__.py").write_text("raise SystemExit('another package was imported')")


def write_files(path: Path) -> None:
    for name in ("api", "store", "wire"):
        (path / f"{name}.py").write_text("raise SystemExit('another module was imported')")


SCRIPT, MODULE = SERVER, (sys.executable, "-m", "server")


@pytest.mark.parametrize(
    ("command", "write", "is_searched"),
    [
        pytest.param(SCRIPT, write_folders, True, id="script, folders, in PYTHONPATH"),
        pytest.param(MODULE, write_files, True, id="module, files, in PYTHONPATH"),
        pytest.param(MODULE, write_folders, True, marks=pytest.mark.soak, id="module, folders, in PYTHONPATH"),
        pytest.param(SCRIPT, write_files, True, marks=pytest.mark.soak, id="script, files, in PYTHONPATH"),
        pytest.param(SCRIPT, write_folders, False, marks=pytest.mark.soak, id="script, folders, not searched"),
        pytest.param(MODULE, write_folders, False, marks=pytest.mark.soak, id="module, folders, not searched"),
    ],
)
def test_folders_and_files_named_like_ours_shadow_nothing(
    tmp_path: Path, command: tuple[str, ...], write: Callable[[Path], None], is_searched: bool
) -> None:
    write(tmp_path)
    assert_starts(tmp_path, command, is_searched)


def assert_starts(tmp_path: Path, command: tuple[str, ...], is_searched: bool) -> None:
    """Start the server in `tmp_path`, which `PYTHONPATH` can contain twice: as the working directory and by its
    path."""
    entries = [".", str(tmp_path)] if is_searched else []
    if command != SERVER:
        entries.append(str(ROOT))
    search = os.pathsep.join(entries)
    assert log_lines(tmp_path, *command, PYTHONPATH=search, MODEL_URL="http://127.0.0.1:9/v1")
