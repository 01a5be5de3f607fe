"""The packages in fresh environments: by every installer, on every Python, without a network; the size of the base."""

import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2
import pytest
from openai import OpenAI

from tests.process import ROOT, free_port
from tests.repository.test_wheels import DEMO, build
from tests.upstream import ScriptedUpstream

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning"),  # OpenAI's SDK, of the Assistants API
]

VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS: Final = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-pc-windows-msvc")
BASE_BYTES: Final = 150_000_000
WITH_MODEL: Final = "threadhold[engine]"
SETTINGS: Final = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


def interpreter(version: str) -> str:
    """Return a Python of this version; skip if there is none."""
    known = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    for path in known:
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return str(path)
    pytest.skip(f"there is no Python {version}")


def run(*words: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `make wheel` builds."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder, "-t", "wheel", "-t", "sdist").check_returncode()
    build(DEMO, folder, **SETTINGS).check_returncode()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with uv and pipx."""
    folder = tmp_path_factory.mktemp("tools")
    venv.create(folder, with_pip=True)
    run(folder / "bin/python", "-m", "pip", "install", "-q", "uv", "pipx")
    return folder / "bin"


def with_uv(tools: Path, python: str, dist: Path, folder: Path) -> Path:
    """`uv pip install` into an environment."""
    run(tools / "uv", "venv", "-q", "--python", python, folder / "env")
    run(tools / "uv", "pip", "install", "-q", "--python", folder / "env/bin/python", "--find-links", dist, WITH_MODEL)
    run(tools / "uv", "pip", "check", "--python", folder / "env/bin/python")
    return folder / "env/bin/threadhold"


def with_uv_tool(tools: Path, python: str, dist: Path, folder: Path) -> Path:
    """`uv tool install`."""
    places = {"UV_TOOL_DIR": str(folder / "tools"), "UV_TOOL_BIN_DIR": str(folder / "bin")}
    run(tools / "uv", "tool", "install", "-q", "--python", python, "--find-links", dist, WITH_MODEL, **places)
    return folder / "bin/threadhold"


def with_pipx(tools: Path, python: str, dist: Path, folder: Path) -> Path:
    """`pipx install`."""
    places = {
        "PIPX_HOME": str(folder / "pipx"),
        "PIPX_BIN_DIR": str(folder / "bin"),
        "PIPX_MAN_DIR": str(folder / "man"),
    }
    run(tools / "pipx", "install", "--python", python, "--pip-args", f"--find-links {dist}", WITH_MODEL, **places)
    return folder / "bin/threadhold"


def without_network(tools: Path, python: str, dist: Path, folder: Path) -> Path:  # noqa: ARG001
    """`pip download` into a folder, then `pip install` from it alone."""
    run(python, "-m", "venv", folder / "env")
    pip = [folder / "env/bin/python", "-m", "pip"]
    run(*pip, "download", "-q", "--dest", folder / "wheelhouse", "--find-links", dist, WITH_MODEL)
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    run(*pip, "install", "-q", "--find-links", folder / "wheelhouse", WITH_MODEL, **offline)
    run(*pip, "check")
    return folder / "env/bin/threadhold"


def from_the_sdist(tools: Path, python: str, dist: Path, folder: Path) -> Path:
    """`uv pip install` of the source archive."""
    (sdist,) = dist.glob("threadhold-*.tar.gz")
    run(tools / "uv", "venv", "-q", "--python", python, folder / "env")
    wanted = f"threadhold[engine] @ {sdist.as_uri()}"
    run(tools / "uv", "pip", "install", "-q", "--python", folder / "env/bin/python", "--find-links", dist, wanted)
    return folder / "env/bin/threadhold"


@contextmanager
def served(program: Path, folder: Path, **settings: str) -> Iterator[str]:
    """Run the installed server in an empty folder, and yield its URL."""
    folder.mkdir()
    port = free_port()
    plain = {"PATH": os.defpath, "HOME": str(folder), "PORT": str(port), **settings}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program], cwd=folder, env=plain, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            while not _answers(f"{url}/ready"):
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            yield url
        finally:
            server.terminate()
            server.wait(60)


def _answers(url: str) -> bool:
    try:
        httpx2.get(url, timeout=60)
    except httpx2.TransportError:
        return False
    return True


INSTALLERS: Final = (with_uv_tool, with_pipx, without_network, from_the_sdist)


@pytest.mark.parametrize(
    ("install", "python"),
    [*((with_uv, version) for version in VERSIONS), *zip(INSTALLERS, ("3.11", "3.13", "3.12", "3.13"), strict=True)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_an_installed_server_shows_the_page_and_answers(
    install: object, python: str, tools: Path, dist: Path, tmp_path: Path
) -> None:
    assert callable(install)
    program = install(tools, interpreter(python), dist, tmp_path)
    (wheel,) = dist.glob("threadhold-*.whl")
    version = wheel.name.split("-")[1]
    assert run(program, "--version").strip() == f"threadhold {version}"
    with served(program, tmp_path / "work") as url:
        assert httpx2.get(f"{url}/health").json()["version"] == version
        assert "<title>" in httpx2.get(url).text
        with OpenAI(base_url=f"{url}/v1", api_key="any") as client:
            assistant = client.beta.assistants.create(model="any", instructions="Be short.")
            ended = client.beta.threads.create_and_run_poll(
                assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "What is a run?"}]}
            )
            assert ended.status == "completed"


def test_the_base_package_is_small_and_works_by_words(
    tools: Path, dist: Path, tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    env = tmp_path / "env"
    run(tools / "uv", "venv", "-q", "--python", sys.executable, env)
    run(tools / "uv", "pip", "install", "-q", "--python", env / "bin/python", "--find-links", dist, "threadhold")
    run(tools / "uv", "pip", "check", "--python", env / "bin/python")
    assert sum(path.stat().st_size for path in env.rglob("*") if path.is_file()) < BASE_BYTES
    with (
        served(env / "bin/threadhold", tmp_path / "work", MODEL_URL=upstream.url) as url,
        OpenAI(base_url=f"{url}/v1", api_key="any") as client,
    ):
        store = client.vector_stores.create(name="one")
        client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", b"Cats purr. " * 20))
        assert client.vector_stores.search(store.id, query="purr").data
    plain = {"PATH": os.defpath, "MODEL_URL": upstream.url, "EMBEDDINGS_MODEL": "any"}
    refused = subprocess.run(
        [env / "bin/threadhold"], cwd=tmp_path, env=plain, capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2
    assert "numpy, which compares vectors, is not installed" in refused.stderr
    assert "numpy>=2.4" in refused.stderr


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_pin_has_a_wheel(version: str, platform: str, tools: Path, tmp_path: Path) -> None:
    pins = [ROOT / "requirements.txt", ROOT / "requirements-engine.txt", ROOT / "requirements-embeddings.txt"]
    files: Sequence[object] = [word for path in pins for word in ("-r", path)]
    wanted = ["--python-version", version, "--python-platform", platform, "--only-binary", ":all:"]
    oldest = {"MACOSX_DEPLOYMENT_TARGET": "14.0"}  # what onnxruntime needs (docs/quickstart.md)
    run(tools / "uv", "pip", "install", "--dry-run", "--no-deps", "--target", tmp_path, *wanted, *files, **oldest)
