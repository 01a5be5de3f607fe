"""Checks that CHANGELOG.md, the version in the code and the tags agree. `make check` runs it.

CHANGELOG.md starts with *Unreleased*, followed by the releases with their dates, newest first. The newest release is
`telemetry.version.RELEASE`. A release needs no tag. A tag `v1.2.3` needs a section, and *Unreleased* must be empty in
the tagged commit.
"""

import re
import subprocess
import sys
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Final

from packaging.version import Version

from telemetry.version import RELEASE, ROOT

__all__ = ["find_faults"]

_SECTION: Final = re.compile(r"^## (.*)$", re.MULTILINE)
_RELEASE: Final = re.compile(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})")


def find_faults(root: Path, release: str) -> list[str]:
    """Return a line for each inconsistency between the changelog in `root`, this release, and the tags of `root`."""
    _, first, unreleased, *rest = _SECTION.split((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    faults = [] if first == "[Unreleased]" else ["CHANGELOG.md: the first section must be `[Unreleased]`"]
    dated = {heading: _RELEASE.fullmatch(heading) for heading in rest[::2]}
    faults += [
        f"CHANGELOG.md: `## {heading}` must have the form `## [1.2.3] - 2026-12-31`"
        for heading, found in dated.items()
        if found is None or not _is_date(found[2])
    ]
    versions = [found[1] for found in dated.values() if found]
    dates = [found[2] for found in dated.values() if found]
    if any(Version(newer) <= Version(older) for newer, older in pairwise(versions)) or dates != sorted(dates)[::-1]:
        faults.append("CHANGELOG.md: releases must be sorted by version and by date, the newest first")
    if versions[:1] != [release]:
        newest = ", ".join(versions[:1]) or "missing"
        faults.append(f"telemetry/version.py: RELEASE is {release}, but the newest release in CHANGELOG.md is {newest}")
    faults += [f"CHANGELOG.md: there is no section for the tag v{tag}" for tag in _tags(root) if tag not in versions]
    if release in _tags(root, "--points-at", "HEAD") and unreleased.strip():
        faults.append(f"CHANGELOG.md: the commit has the tag v{release}, but *Unreleased* is not empty")
    return faults


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _tags(root: Path, *options: str) -> list[str]:
    """Return the versions of the tags; none outside a repository."""
    command = ["git", "-C", str(root), "tag", "--list", "v[0-9]*", *options]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except OSError:
        return []
    return [tag.removeprefix("v") for tag in listed.stdout.split()]


if __name__ == "__main__":
    found = find_faults(ROOT, RELEASE)
    print("\n".join(found) or "The changelog, the version and the tags agree.")
    sys.exit(bool(found))
