"""Writes the pin files from `pyproject.toml`, the demo model's excepted. Run by `make pins` in a fresh environment.

Law: a pin file names distributions and versions only, never where they come from.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

_TOP = Path(__file__).parents[2]
_HEAD = "# {what}, pinned; written by `make pins` from pyproject.toml.\n"


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _pin(wanted: list[str]) -> set[str]:
    """Install `wanted` on top of what is there, and return all that is there now."""
    _pip("install", "--quiet", "--disable-pip-version-check", *wanted)
    return set(_pip("freeze", "--all", "--exclude", "setuptools").splitlines())


def _write(name: str, what: str, pins: set[str]) -> None:
    (_TOP / name).write_text(_HEAD.format(what=what) + "".join(f"{pin}\n" for pin in sorted(pins, key=str.lower)))
    print(f"{name}: {len(pins)} pins")


def main() -> None:
    """Pin the runtime first, so that what comes later cannot change it."""
    project = tomllib.loads((_TOP / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    runtime = {pin for pin in _pin(project["project"]["dependencies"]) if not pin.startswith("pip==")}
    _write("requirements.txt", "What the server runs on", runtime)
    build = _pin([*groups["build"], "-c", str(_TOP / "requirements.txt")])
    _write("requirements-build.txt", "What installs the project itself, on top of requirements.txt", build - runtime)
    test = _pin([*groups["test"], "-c", str(_TOP / "requirements.txt")])
    _write("requirements-test.txt", "Test tools on top of requirements.txt", test - build)
    extra = project["project"]["optional-dependencies"]["engine"]
    wanted = [text for text in extra if not text.startswith("threadhold-demo-model")]  # built from this checkout
    engine = _pin([*wanted, "-c", str(_TOP / "requirements.txt")])
    _write("requirements-engine.txt", "The built-in engine, on top of requirements.txt", engine - test)


if __name__ == "__main__":
    main()
