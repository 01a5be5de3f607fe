"""`threadhold licenses`: lists the packages that this server uses, and the license of each."""

from importlib import metadata
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ops.terminal import print_line

__all__ = ["license_of", "packages", "run_licenses"]

_ROOT: Final = "threadhold"
_MAX_SHOWN: Final = 60  # characters: some packages put the whole license text into the field


def run_licenses() -> int:
    """Print one line per package: its name, version and license."""
    found = sorted(packages())
    width = max(map(len, found)) + 2
    for name in found:
        print_line(f"{name:<{width}}{metadata.version(name):<14}{license_of(name)}")
    print_line(
        "LangServe's license forbids offering it to third parties as a hosted or managed service; see docs/operate.md."
    )
    return 0


def packages(root: str = _ROOT) -> set[str]:
    """Return the installed packages that `root` needs, including those of installed extras, and itself."""
    found: set[str] = set()
    waiting = [(canonicalize_name(root), True)]
    while waiting:
        name, with_extras = waiting.pop()
        if name in found:
            continue
        try:
            needed = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:  # of another platform, or of an extra that is not installed
            continue
        found.add(name)
        waiting += [(canonicalize_name(one.name), False) for one in needed if _is_wanted(one, with_extras=with_extras)]
    return found


def _is_wanted(one: Requirement, *, with_extras: bool) -> bool:
    return one.marker is None or one.marker.evaluate({"extra": ""}) or (with_extras and "extra" in str(one.marker))


def license_of(name: str) -> str:
    """Return what a package states about its license: an SPDX expression, its classifiers, or free text."""
    about = metadata.metadata(name)
    if "License-Expression" in about:
        return about["License-Expression"]
    listed = [each.rpartition(" :: ")[2] for each in about.get_all("Classifier") or () if each.startswith("License ::")]
    text = " ".join(about["License"].split()) if "License" in about else ""
    stated = text.partition(" Copyright ")[0]
    stated = stated if len(stated) <= _MAX_SHOWN else ""
    named = ", ".join(each for each in listed if each != "OSI Approved")
    if "Proprietary" in named:
        return f"{stated} (not an open-source license)".strip()
    return named or stated or "see the package"
