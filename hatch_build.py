"""Lets pip install the extra `engine` from a checkout.

The extra requires `threadhold-demo-model`, which is the folder `demo_model` of the checkout. uv finds it by
`tool.uv.sources` in pyproject.toml. pip has no such setting, so a wheel that pip builds from a checkout names the
folder. Every other build names the package only: sdists, wheels from sdists, `make wheel`, `python -m build` and
`uv build`.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CheckoutHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the folder as a requirement of the extra."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Add a direct reference to `build_data`, whose dependencies precede the extra's.

        pip resolves in that order: the folder then satisfies the extra's own requirement of the same name.
        """
        folder = Path(self.root, "demo_model")
        is_checkout = (folder / "pyproject.toml").is_file() and not Path(self.root, "PKG-INFO").exists()
        # Hatchling, too, recognizes pip by this variable.
        if is_checkout and "PIP_BUILD_TRACKER" in os.environ:
            reference = f'threadhold-demo-model @ {folder.resolve().as_uri()} ; extra == "engine"'
            build_data["dependencies"].append(reference)
