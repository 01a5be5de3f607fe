"""The README agrees with the program: settings, routes, examples, version. No file names the host of a registry."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from server import Settings
from tests.process import ServerProcess
from tests.repository.test_packages import TOP
from tests.upstream import ScriptedUpstream

README = (TOP / "README.md").read_text()
CHANGELOG = (TOP / "CHANGELOG.md").read_text()
EXAMPLES = re.findall(r"<!-- run -->\n```(?:sh|python)\n(.*?)```", README, re.DOTALL)

_PREFIXES = {"assistant": "asst", "message": "msg"}

# Spelled in parts, so that this file does not name them either.
FOREIGN = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("deb", "debian", "org"),
        ("registry", "yarnpkg", "com"),
    )
] + ["/" + "work/main", "/" + "work/shared", "index" + "-url"]


def section(title: str) -> str:
    """Return the README's text under that heading, up to the next heading of the same level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert found, f"the README has no section '{title}'"
    return found.group(1)


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as up:
        yield up


@pytest.fixture(scope="module")
def server(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server"), MODEL_URL=upstream.url) as process:
        yield process


def test_the_readme_has_exactly_the_settings() -> None:
    rows = re.findall(r"^\| (`[A-Z][^|]*) \|", section("Settings"), re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`([A-Z0-9_]+)`", row)]
    assert len(listed) == len(set(listed))
    assert sorted(listed) == sorted(name.upper() for name in Settings.model_fields)


def test_the_readme_has_the_default_values() -> None:
    listed = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| `?(.*?)`? \|", section("Settings"), re.MULTILINE))
    defaults = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    switches = {name: str(value).lower() for name, value in defaults.items() if isinstance(value, bool)}
    assert {name: listed[name] for name in switches} == switches
    numbers = {
        name: float(value)
        for name, value in defaults.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert {name: float(listed[name]) for name in numbers} == numbers
    assert listed["HOST"] == defaults["HOST"]
    assert not [name for name, value in listed.items() if value.startswith("none") and defaults[name]]


def served_paths(server: ServerProcess) -> dict[str, list[str]]:
    """Return path, without `/v1` → methods, according to the OpenAPI document."""
    paths = server.request("GET", "/openapi.json")["paths"]
    return {path.removeprefix("/v1"): [method.upper() for method in methods] for path, methods in paths.items()}


def test_the_readme_has_exactly_the_routes(server: ServerProcess) -> None:
    def nameless(path: str) -> str:
        return re.sub(r"\{[^}]*\}", "{}", path)

    served = {(method, nameless(path)) for path, methods in served_paths(server).items() for method in methods}
    rows = re.findall(r"^\| ([A-Z, ]+) \| `([^`]*)`", section("Routes"), re.MULTILINE)
    listed = {(method, nameless(path)) for methods, path in rows for method in methods.split(", ")}
    assert listed - served == {("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/metrics")}
    assert served - listed == set()


def test_every_route_is_served_with_and_without_v1(server: ServerProcess) -> None:
    def listed(method: str, path: str) -> tuple[int, object]:
        answer = httpx2.request(method, server.url + path, json={} if method == "POST" else None, timeout=10)
        return answer.status_code, answer.json().get("error")

    for template, methods in served_paths(server).items():
        path = re.sub(r"\{(\w+?)(_id)?\}", lambda name: f"{_PREFIXES.get(name[1], name[1])}_none", template)
        for method in methods:
            assert listed(method, path) == listed(method, f"/v1{path}"), f"{method} {path}"


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"example {number}" for number in range(len(EXAMPLES))])
def test_the_readme_s_examples_run(
    example: str, server: ServerProcess, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    command = [sys.executable, "-W", "ignore", "-c"] if "import " in example else ["bash", "-euo", "pipefail", "-c"]
    example = example.replace("http://127.0.0.1:3000", server.url).replace("http://127.0.0.1:1234/v1", upstream.url)
    done = subprocess.run(
        [*command, example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_the_readme_has_examples_that_run() -> None:
    assert len(EXAMPLES) >= 2


def test_the_changelog_s_newest_version_is_the_project_s() -> None:
    version = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"]
    assert re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)[0] == version


def test_no_file_names_a_registry_or_a_local_path() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    found = [
        (name, word)
        for name in filter(None, listed)
        if (TOP / name).is_file()
        for word in FOREIGN
        if word in (TOP / name).read_text(errors="replace")
    ]
    assert found == []
