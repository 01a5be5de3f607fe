"""The version of the running code, for `--version`, `/health`, metrics, traces, the log and the User-Agent.

`RELEASE` is the newest release in CHANGELOG.md. Later code has the next version, with the number of commits since the
release and the commit's hash: `1.0.1.dev3+gabc1234`. Tags are not needed. Builds store the version in their metadata
(`tool.hatch.version` in pyproject.toml), and code in a checkout finds it at each start.
"""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

__all__ = ["RELEASE", "ROOT", "installed_version", "source_version"]

RELEASE: Final = "1.0.0"
ROOT: Final = Path(__file__).resolve().parents[1]
"""The folder of the sources, or the folder that they are installed into."""

_FILE: Final = "telemetry/version.py"
_GIT_LIMIT_S: Final = 10.0


@cache
def installed_version() -> str:
    """Return the version of this code: of its sources if it runs from them, else of the installed distribution.

    In an editable install, the distribution's version can be outdated, because the sources change later.
    """
    if (ROOT / "pyproject.toml").exists():
        return source_version(ROOT)
    try:
        return version("threadhold")
    except PackageNotFoundError:
        return f"{RELEASE}+unknown"


def source_version(root: Path) -> str:
    """Return the version of the sources in `root`: a checkout, an archive of a commit, or an unpacked sdist.

    Return `RELEASE+unknown` if their commit is unknown.
    """
    if (root / "PKG-INFO").exists():
        lines = (root / "PKG-INFO").read_text(encoding="utf-8").splitlines()
        return next(line.removeprefix("Version: ") for line in lines if line.startswith("Version: "))
    if (root / ".git").exists():
        return _of_checkout(root) or f"{RELEASE}+unknown"
    return _of_archive(root) or f"{RELEASE}+unknown"


def _of_checkout(root: Path) -> str | None:
    """Return the version of HEAD; None if git is missing or refuses to read the repository."""
    head = _git(root, "log", "-1", "--format=%h %D", f"--decorate-refs=refs/tags/v{RELEASE}")
    if not head:
        return None
    commit, _, names = head.partition(" ")
    if _is_release(names):
        return RELEASE
    released = _git(root, "rev-parse", "--quiet", "--verify", f"refs/tags/v{RELEASE}^{{commit}}")
    if not released:
        if _git(root, "rev-parse", "--is-shallow-repository") != "false":
            return _next(0, commit)  # in a shallow clone, the oldest commit appears to add every line
        released = _git(root, "log", "-1", "--format=%H", f'-GRELEASE: Final = "{RELEASE}"', "--", _FILE)
    count = _git(root, "rev-list", "--count", f"{released}..HEAD") if released else None
    return RELEASE if count == "0" else _next(int(count or 0), commit)


def _of_archive(root: Path) -> str | None:
    """Return the version that `commit.txt` describes; None if it names no commit.

    `git archive`, and hosts that offer archives, replace its placeholder with the commit and its tags (.gitattributes).
    """
    try:
        commit, _, names = (root / "commit.txt").read_text(encoding="utf-8").strip().partition(" ")
    except OSError:
        return None
    if not commit.isalnum():
        return None
    return RELEASE if _is_release(names) else _next(0, commit)


def _is_release(names: str) -> bool:
    """Return whether the release's tag is among the names that git lists for a commit (`%D`)."""
    return f"tag: v{RELEASE}" in names.split(", ")


def _next(distance: int, commit: str) -> str:
    major, minor, patch = RELEASE.split(".")
    return f"{major}.{minor}.{int(patch) + 1}.dev{distance}+g{commit}"


def _git(root: Path, *words: str) -> str | None:
    """Return git's output; None if the command fails."""
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_LIMIT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
