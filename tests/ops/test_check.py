"""`threadhold check` reports problems by its output and its exit code, and writes nothing."""

import json
import os
from pathlib import Path

import pytest

from tests.forked import run_forked
from tests.ops.command import command
from tests.ops.conftest import data
from tests.process import ROOT, ServerProcess, free_port
from tests.upstream import Fail, ScriptedUpstream


def lines(results: str) -> dict[str, tuple[str, str]]:
    """Return the results by their subject."""
    found = {}
    for line in results.splitlines()[:-1]:
        state, about, report = line.split(maxsplit=2)
        found[about] = (state, report)
    return found


def test_passed_checks_are_listed_and_nothing_is_written(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    done = command(tmp_path, "check", MODEL_URL=upstream.url, PORT=str(free_port()))
    assert (done.returncode, done.stderr) == (0, "")
    assert {about: state for about, (state, _) in lines(done.stdout).items()} == dict.fromkeys(
        ("settings", "models", "search", "store", "files", "disk", "port"), "ok"
    )
    assert lines(done.stdout)["models"] == ("ok", "test-model")
    assert list(tmp_path.iterdir()) == []


def test_ignored_fields_are_mentioned(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    results = {
        mode: lines(
            command(tmp_path, "check", MODEL_URL=upstream.url, PORT=str(free_port()), UNKNOWN_FIELDS=mode).stdout
        )
        for mode in ("refuse", "ignore")
    }
    assert "unknown fields" not in results["refuse"]["settings"][1]
    assert "unknown fields of requests are ignored" in results["ignore"]["settings"][1]


def test_a_running_server_is_detected_and_not_disturbed(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    done = command(data(server), "check", MODEL_URL=upstream.url, PORT=str(server.port))
    assert done.returncode == 0, done.stdout
    assert "in use by a server" in lines(done.stdout)["store"][1]
    assert "is in use, most likely by the server" in lines(done.stdout)["port"][1]
    assert server.request("GET", "/ready")["status"] == "ready"


def test_a_closed_store_is_checked_without_a_trace(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    command(tmp_path, "import", "-", given='{"id": "thread_a", "messages": [{"role": "user", "content": "x"}]}')
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    done = command(tmp_path, "check", MODEL_URL=upstream.url, PORT=str(free_port()))
    assert "1 threads, 1 messages" in lines(done.stdout)["store"][1]
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("settings", "about", "words"),
    [
        ({"MODEL_URL": "http://127.0.0.1:9/v1"}, "models", "cannot be reached"),
        ({"MODEL_URL": "ftp://x"}, "models", "MODEL_URL"),
        ({"MODEL_PATH": "/none.gguf"}, "engine", "does not exist"),
        ({"HOST": "0.0.0.0"}, "settings", "API_KEYS is empty"),
        ({"DATABASE_URL": "postgres://u:secret@h/d"}, "store", "only SQLite is supported"),
        ({"DATABASE_URL": "sqlite:///notes.txt"}, "store", "notes.txt"),
    ],
    ids=["upstream down", "no address", "no model", "open to the network", "postgres", "no database"],
)
def test_all_problems_are_reported(tmp_path: Path, settings: dict[str, str], about: str, words: str) -> None:
    (tmp_path / "notes.txt").write_text("no database at all " * 100)
    done = command(tmp_path, "check", **{"PORT": str(free_port()), **settings})
    found = lines(done.stdout)
    assert done.returncode == 1
    assert found[about][0] == "wrong"
    assert words in found[about][1]
    assert "secret" not in done.stdout
    assert found["port"][0] == "ok"


def test_no_password_of_a_url_is_printed_or_logged(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    settings = {
        "MODEL_URL": f"ann:pass-one@{upstream.url.removeprefix('http://')}?key=pass-two",
        "UPSTREAMS": json.dumps({"gpu": {"url": "http://ann:pass-three@127.0.0.1:9/v1"}}),
        "DATABASE_URL": "sqlite://bob:pass-four@host.db",
        "REDIS_URL": "redis://:pass-five@127.0.0.1/0",
    }
    checked = command(tmp_path, "check", PORT=str(free_port()), **settings)
    server = ServerProcess(tmp_path, **settings)
    with server:
        server.request("GET", "/health")
    log = server.log.read_text()
    assert upstream.url in f"http://{log.partition('models: ')[2]}"
    assert "bob:[secret]@host.db" in log
    assert "pass-" not in checked.stdout + checked.stderr + log


def test_an_invalid_model_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"<html>not found</html>")
    done = command(tmp_path, "check", MODEL_PATH=str(tmp_path / "m.gguf"), PORT=str(free_port()))
    assert "is not a GGUF file" in lines(done.stdout)["engine"][1]


def test_an_empty_database_file_is_accepted_as_by_a_start(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    (tmp_path / "threadhold.db").touch()
    done = command(tmp_path, "check", MODEL_URL=upstream.url, PORT=str(free_port()))
    assert (done.returncode, lines(done.stdout)["store"][0]) == (0, "ok")
    with ServerProcess(tmp_path, MODEL_URL=upstream.url) as server:
        assert server.request("GET", "/ready")["status"] == "ready"


def test_an_unlisted_default_model_is_a_warning(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    done = command(tmp_path, "check", MODEL_URL=upstream.url, DEFAULT_MODEL="gpt-9", PORT=str(free_port()))
    assert done.returncode == 0
    assert lines(done.stdout)["default"][0] == "warning"


def test_the_model_is_called_only_on_request(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    asked = len(upstream.requests)
    settings = {"MODEL_URL": upstream.url, "PORT": str(free_port())}
    assert "answer" not in lines(command(tmp_path, "check", **settings).stdout)
    assert len(upstream.requests) == asked
    done = command(tmp_path, "check", "--ask", **settings)
    assert done.returncode == 0, done.stdout
    state, report = lines(done.stdout)["answer"]
    assert (state, "says 'Echo: Say hello.'" in report) == ("ok", True)
    upstream.script(Fail(401, {"error": {"message": "No such key."}}))
    done = command(tmp_path, "check", "--ask", **settings)
    assert (done.returncode, lines(done.stdout)["answer"][0]) == (1, "wrong")
    assert "No such key." in lines(done.stdout)["answer"][1]


def test_an_invalid_setting_is_reported_in_one_sentence(tmp_path: Path) -> None:
    done = command(tmp_path, "check", DRAIN_S="soon")
    assert (done.returncode, done.stdout) == (2, "")
    report = "DRAIN_S is `soon`, but must be a number of at least 0. Correct it or remove it (default: `10`)."
    assert done.stderr == f"threadhold: {report}\n"


@pytest.mark.parametrize(
    "settings",
    [
        {"HOST": "0.0.0.0"},
        {"HOST": "0.0.0.0", "DATABASE_URL": "postgres://u:secret@h/d"},
        {"EMBEDDINGS_MODEL": "embed"},
        {"MODEL_URL": "ftp://u:secret@host"},
        {"API_KEYS": "ann=secret,bob=secret"},
        {"PROMPTS": '{"wrongly": "x"}'},
        {"UPSTREAMS": '{"gpu": {"url": "ftp://host"}}'},
        {"MAX_RUNS": "0", "PORT": "70000"},
    ],
    ids=["open", "two faults", "embeddings", "model url", "keys", "prompts", "upstream", "two values"],
)
def test_check_and_start_report_the_same_errors(tmp_path: Path, settings: dict[str, str]) -> None:
    settings = {"PORT": str(free_port()), **settings}
    started = command(tmp_path, "serve", **settings)
    assert started.returncode == 2, started.stderr
    faults = [line.removeprefix("threadhold: ") for line in started.stderr.splitlines() if "threadhold: " in line]
    checked = command(tmp_path, "check", **settings)
    report = [line.split(maxsplit=2)[-1] for line in checked.stdout.splitlines() if line.startswith("wrong")]
    report += [line.removeprefix("threadhold: ") for line in checked.stderr.splitlines()]
    assert faults
    assert set(faults) <= set(report)
    assert checked.returncode in (1, 2)
    assert "secret" not in started.stderr + checked.stdout + checked.stderr


def test_entries_without_effect_are_named(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MODEL_ULR=x\nPATH_OF_OTHERS=1\nno sense at all\nDRAIN_S=3\n")
    (tmp_path / "threadhold.toml").write_text('max_run = 3\nPORT = 1\nzebra = 1\n[upstream.gpu]\nurl = "http://x"\n')
    done = command(tmp_path, "check", MODEL_URL=upstream.url, PORT=str(free_port()))
    warned = [line.split(maxsplit=2)[2] for line in done.stdout.splitlines() if line.startswith("warning ")]
    assert warned == [
        "threadhold.toml: `max_run` is not a setting; did you mean `max_runs`?",
        "threadhold.toml: `PORT` is not a setting; did you mean `port`?",
        "threadhold.toml: `zebra` is not a setting",
        "threadhold.toml: `upstream` is not a setting; did you mean `upstreams`?",
        ".env: `MODEL_ULR` is not a setting; did you mean `MODEL_URL`?",
        ".env: line 3 sets nothing; write NAME=value",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_objects_that_no_key_can_access_are_reported(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    command(tmp_path, "import", "-", given='{"id": "thread_a", "messages": [{"role": "user", "content": "x"}]}')
    given = {"MODEL_URL": upstream.url, "PORT": str(free_port())}
    report = (
        "Objects of `default` cannot be accessed: there is no key for them. Create one: `threadhold keys create "
        "--owner default`."
    )
    assert report in command(tmp_path, "check", API_KEYS="bob=k1", **given).stdout
    for keys in ("", "k1", "default=k1,bob=k2"):
        assert "cannot be accessed" not in command(tmp_path, "check", API_KEYS=keys, **given).stdout
    with ServerProcess(tmp_path, API_KEYS="bob=k1", MODEL_URL=upstream.url) as server:
        assert report in server.log.read_text().replace("\\", "")


@pytest.mark.parametrize(
    ("path", "about", "words"),
    [
        ("data", "store", "data` is a file, not a folder"),
        ("data/threadhold.db/x", "store", "threadhold.db` is a folder, not a file"),
        ("data/files", "files", "files` is a file, not a folder"),
    ],
    ids=["data folder", "database", "files"],
)
def test_check_and_start_report_a_file_instead_of_a_folder(
    upstream: ScriptedUpstream, tmp_path: Path, path: str, about: str, words: str
) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("")
    settings = {"MODEL_URL": upstream.url, "PORT": str(free_port()), "DATA_DIR": str(tmp_path / "data")}
    report = lines(command(tmp_path, "check", **settings).stdout)[about][1]
    assert words in report
    started = run_forked([str(ROOT / "server.py"), "serve"], env={**os.environ, **settings}, cwd=tmp_path, timeout_s=30)
    assert report in started.stderr
    assert started.returncode == 1
