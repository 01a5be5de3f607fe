"""Lets pip install the extra `engine` from a checkout, and makes the description for package indexes.

The extra requires `threadhold-demo-model`, which is the folder `demo_model` of the checkout. uv finds it by
`tool.uv.sources` in pyproject.toml. pip has no such setting, so a wheel that pip builds from a checkout names the
folder. Every other build names the package only: sdists, wheels from sdists, `make wheel`, `python -m build` and
`uv build`.

The description is README.md without its relative links and pictures, which have no target on an index.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

FOLDER = "demo_model"
CLONES = ("pip-install-", "pip-req-build-")  # the folders in which pip clones repositories begin with one of these
GIT_LIMIT_S = 60
PICTURE = re.compile(r"!\[[^]]*\]\((?!https?:)[^)]*\)\n*")
LINK = re.compile(r"\[([^]]*)\]\((?!https?:)[^)]*\)")


class DescriptionHook(MetadataHookInterface):
    """Sets the description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the field `readme` of `metadata`."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": LINK.sub(r"\1", PICTURE.sub("", text))}


class CheckoutHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the folder as a requirement of the extra."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Add a direct reference to `build_data`, whose dependencies precede the extra's.

        pip resolves in that order: the folder then satisfies the extra's own requirement of the same name.
        """
        root = Path(self.root).resolve()
        is_checkout = (root / FOLDER / "pyproject.toml").is_file() and not (root / "PKG-INFO").exists()
        # Hatchling, too, recognizes pip by this variable.
        if is_checkout and "PIP_BUILD_TRACKER" in os.environ:
            address = _repository(root) or (root / FOLDER).as_uri()
            build_data["dependencies"].append(f'threadhold-demo-model @ {address} ; extra == "engine"')


def _repository(root: Path) -> str | None:
    """Return the folder's address in the repository of which `root` is pip's clone; None if `root` is no such clone.

    pip removes the clone, but can keep the wheel in its cache. An address with a password stays out of the wheel, and
    so does one that a requirement cannot express (`file:///`).
    """
    if not any(part.startswith(CLONES) for part in root.parts) or not (root / ".git").exists():
        return None
    try:
        url, commit = _git(root, "remote", "get-url", "origin"), _git(root, "rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None
    parts = urlsplit(url)
    if not parts.netloc or parts.password or ("@" in parts.netloc and parts.scheme != "ssh"):
        return None
    return f"git+{url}@{commit}#subdirectory={FOLDER}"


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_LIMIT_S).stdout.strip()
