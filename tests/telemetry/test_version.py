"""The version of sources: at a release, after it, without tags, in a shallow clone, in an archive, and in an sdist."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from telemetry.version import RELEASE, ROOT, installed_version, source_version

NEXT = f"{RELEASE.rpartition('.')[0]}.{int(RELEASE.rpartition('.')[2]) + 1}"
FILES = ("commit.txt", ".gitattributes", "telemetry/version.py")


class Checkout:
    """A repository whose second commit sets the release."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("commit", "-q", "--allow-empty", "-m", "before")
        for name in FILES:
            (root / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        self.git("add", ".")
        self.git("commit", "-q", "-m", "release")

    def git(self, *words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
        command = ["git", *who, "-C", str(self.root), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> str:
        self.git("commit", "-q", "--allow-empty", "-m", "more")
        return self.git("rev-parse", "--short", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_the_commit_that_sets_the_release_has_its_version(checkout: Checkout) -> None:
    assert source_version(checkout.root) == RELEASE


def test_later_commits_have_the_next_version_with_count_and_commit(checkout: Checkout) -> None:
    checkout.commit()
    commit = checkout.commit()
    assert source_version(checkout.root) == f"{NEXT}.dev2+g{commit}"


def test_a_tag_of_the_release_decides(checkout: Checkout) -> None:
    checkout.commit()
    checkout.git("tag", "-a", f"v{RELEASE}", "-m", "release")
    checkout.git("tag", "v0.0.1")
    assert source_version(checkout.root) == RELEASE
    commit = checkout.commit()
    assert source_version(checkout.root) == f"{NEXT}.dev1+g{commit}"


def test_a_shallow_clone_names_the_commit_without_a_count(checkout: Checkout, tmp_path: Path) -> None:
    commit = checkout.commit()
    subprocess.run(["git", "clone", "-q", "--depth=1", checkout.root.as_uri(), tmp_path / "shallow"], check=True)
    assert source_version(tmp_path / "shallow") == f"{NEXT}.dev0+g{commit}"


@pytest.mark.parametrize("is_tagged", [True, False], ids=["tagged", "untagged"])
def test_an_archive_names_the_commit_it_was_made_from(checkout: Checkout, tmp_path: Path, is_tagged: bool) -> None:
    commit = checkout.commit()
    if is_tagged:
        checkout.git("tag", f"v{RELEASE}")
    checkout.git("archive", "--prefix=sources/", "-o", str(tmp_path / "sources.tar"), "HEAD")
    with tarfile.open(tmp_path / "sources.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    assert source_version(tmp_path / "sources") == (RELEASE if is_tagged else f"{NEXT}.dev0+g{commit}")


def test_copied_files_have_no_known_commit(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".git")
    assert source_version(checkout.root) == f"{RELEASE}+unknown"
    (checkout.root / "commit.txt").unlink()
    assert source_version(checkout.root) == f"{RELEASE}+unknown"


def test_an_unpacked_sdist_has_the_version_of_its_metadata(tmp_path: Path) -> None:
    (tmp_path / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: threadhold\nVersion: 1.2.3.dev4+gabc\n")
    assert source_version(tmp_path) == "1.2.3.dev4+gabc"


def test_sources_show_their_current_commit_whatever_is_installed() -> None:
    program = "from telemetry.version import installed_version; print(installed_version())"
    printed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert printed.stdout.strip() == source_version(ROOT) == installed_version()
