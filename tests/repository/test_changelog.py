"""The changelog, the version and the tags agree; inconsistencies are reported."""

import subprocess
from pathlib import Path

import pytest

from docgen.changelog import find_faults
from telemetry.version import RELEASE, ROOT

GOOD = "# Changelog\n\n## [Unreleased]\n\n## [1.1.0] - 2026-12-01\n\n- New.\n\n## [1.0.0] - 2026-11-21\n\n- Old.\n"


def test_the_repository_s_changelog_version_and_tags_agree() -> None:
    assert find_faults(ROOT, RELEASE) == []


def test_a_good_changelog_has_no_faults(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text(GOOD)
    assert find_faults(tmp_path, "1.1.0") == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("## [Unreleased]\n", "## [1.2.0] - 2026-12-02\n", "the first section must be"),
        ("[1.1.0] - 2026-12-01", "[1.1.0]", "must have the form"),
        ("2026-12-01", "2026-13-01", "must have the form"),
        ("2026-12-01", "2026-11-01", "must be sorted"),
        ("[1.0.0]", "[1.1.0]", "must be sorted"),
        ("[1.1.0]", "[1.10.0]", "RELEASE is 1.1.0, but the newest release in CHANGELOG.md is 1.10.0"),
    ],
    ids=["no Unreleased", "no date", "no such date", "dates", "versions", "another release"],
)
def test_a_wrong_changelog_is_reported(tmp_path: Path, old: str, new: str, fault: str) -> None:
    (tmp_path / "CHANGELOG.md").write_text(GOOD.replace(old, new))
    assert any(fault in line for line in find_faults(tmp_path, "1.1.0"))


def test_a_tag_needs_a_section_and_an_empty_unreleased(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, "-C", tmp_path, *words], check=True)

    (tmp_path / "CHANGELOG.md").write_text(GOOD)
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    git("tag", "v1.1.0")
    assert find_faults(tmp_path, "1.1.0") == []
    (tmp_path / "CHANGELOG.md").write_text(GOOD.replace("[Unreleased]\n", "[Unreleased]\n\n- More.\n"))
    assert find_faults(tmp_path, "1.1.0") == [
        "CHANGELOG.md: the commit has the tag v1.1.0, but *Unreleased* is not empty"
    ]
    git("commit", "-q", "--allow-empty", "-m", "two")
    assert find_faults(tmp_path, "1.1.0") == []
    git("tag", "v1.2.0")
    assert find_faults(tmp_path, "1.1.0") == ["CHANGELOG.md: there is no section for the tag v1.2.0"]
