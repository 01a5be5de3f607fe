"""The documentation agrees with the program: settings, routes, errors, examples, links. No file names a registry."""

import os
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest

from docgen.pages import PAGES as GENERATED
from server import Settings
from tests.forked import run_forked
from tests.process import ServerProcess
from tests.repository.test_packages import SOURCES, TOP
from tests.upstream import ScriptedUpstream

README = TOP / "README.md"
DOCS = TOP / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINKED = [*PAGES, *sorted(TOP.glob("*.md")), TOP / "demo_model/README.md"]
EXAMPLES = [
    pytest.param(example, id=f"{page.stem} {number}")
    for page in (README, *PAGES)
    for number, example in enumerate(
        re.findall(r"^<!-- run -->\n```(?:sh|python)\n(.*?)```", page.read_text(), re.DOTALL | re.MULTILINE)
    )
]
MAX_README, MAX_PAGE = 200, 300

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


def name_of(page: Path) -> str:
    return str(page.relative_to(TOP))


def section(page: Path, title: str) -> str:
    """Return the page's text under that heading, up to the next heading of the same level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page.read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"{name_of(page)} has no section '{title}'"
    return found.group(1)


def prose(page: Path) -> str:
    """Return the page without fenced code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors that the headings get."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as up:
        yield up


@pytest.fixture(scope="module")
def server(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server"), MODEL_URL=upstream.url) as process:
        yield process


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_current(name: str) -> None:
    assert (DOCS / name).read_text() == GENERATED[name](), "run `make reference`"


def test_every_setting_is_described_with_its_default() -> None:
    fields = {name.upper(): field for name, field in Settings.model_fields.items()}
    assert [name for name, field in fields.items() if not field.description] == []
    listed = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| `?(.*?)`? \|", (DOCS / "settings.md").read_text(), re.MULTILINE))
    assert listed.keys() == fields.keys()
    for name, field in fields.items():
        match field.default:
            case bool():
                assert listed[name] == str(field.default).lower()
            case int() | float():
                assert float(listed[name]) == field.default
            case None | "" | () | {}:
                assert listed[name] == "none"
            case _:
                assert listed[name] == str(field.default)


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MAX_README


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_says_for_whom_it_is_and_is_short(page: Path) -> None:
    blocks = page.read_text().split("\n\n")
    assert blocks[0].startswith("# ")
    assert blocks[1].startswith("This page is for ")
    assert page.name in GENERATED or len(page.read_text().splitlines()) < MAX_PAGE


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.is_file() or (anchor and anchor not in anchors(file)):
            broken.append(target)
        if page in PAGES and not file.is_relative_to(DOCS):
            broken.append(f"{target} (the site has only docs/)")
    assert broken == []


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        pytest.skip("it names files of earlier versions")
    known = [str(path.relative_to(TOP)) for path in (*SOURCES, *TOP.glob("bench/*.py"), *TOP.glob("docgen/*.py"))]
    known += [str(path.relative_to(TOP)) for folder in ("tests", "examples") for path in (TOP / folder).rglob("*.py")]
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", page.read_text()))
    assert [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in known)] == []


def test_the_site_has_every_page() -> None:
    named = re.findall(r"- (\S+\.md)$", (TOP / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


def test_the_list_of_decisions_is_complete() -> None:
    folder = DOCS / "decisions"
    listed = re.findall(r"\((\S+\.md)\)", (folder / "README.md").read_text())
    assert sorted(listed) == sorted(path.name for path in folder.glob("*.md") if path.name != "README.md")


class Loads(HTMLParser):
    """Collects what a page loads from other hosts; links that a reader follows do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href") and tag != "a" and re.match(r"(https?:)?//", value or ""):
                self.foreign.append(f"{tag} {value}")


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    mkdocs = TOP / ".venv-docs/bin/mkdocs"
    if not mkdocs.exists():
        pytest.skip("no .venv-docs; `make docs` installs it")
    command = [mkdocs, "build", "--strict", "--site-dir", tmp_path]
    built = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=50, check=False)
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        parser = Loads()
        parser.feed(page.read_text())
        assert parser.foreign == [], page.name


def served_paths(server: ServerProcess) -> dict[str, list[str]]:
    """Return path, without `/v1` → methods, according to the OpenAPI document."""
    paths = server.request("GET", "/openapi.json")["paths"]
    return {path.removeprefix("/v1"): [method.upper() for method in methods] for path, methods in paths.items()}


def test_the_documentation_has_exactly_the_routes(server: ServerProcess) -> None:
    served = {(method, path) for path, methods in served_paths(server).items() for method in methods}
    listed = set(re.findall(r"^\| ([A-Z]+) `([^`]*)`", (DOCS / "api.md").read_text(), re.MULTILINE))
    others = {("GET", path) for path in ("/", "/openapi.json", "/docs", "/metrics")}
    assert listed - served == others
    assert served - listed == set()
    for _, path in others:
        assert httpx2.get(server.url + path, timeout=30).status_code == 200


def test_the_documentation_has_every_error_code() -> None:
    sources = {path: path.read_text() for path in SOURCES}
    in_code = {code for text in sources.values() for code in re.findall(r"\bcode=\"([a-z_]+)\"", text)}
    in_code |= set(re.findall(r"^    code = \"([a-z_]+)\"", sources[TOP / "wire/errors.py"], re.MULTILINE))
    documented = set(re.findall(r"`([a-z_]+)`", section(DOCS / "from-openai.md", "Errors")))
    documented |= set(re.findall(r"`([a-z_]+)`", section(DOCS / "files-and-search.md", "Types of files")))
    assert in_code - documented == set()


def test_every_route_is_served_with_and_without_v1(server: ServerProcess) -> None:
    def listed(method: str, path: str) -> tuple[int, object]:
        answer = httpx2.request(method, server.url + path, json={} if method == "POST" else None, timeout=10)
        return answer.status_code, answer.json().get("error")

    for template, methods in served_paths(server).items():
        path = re.sub(r"\{(\w+?)(_id)?\}", lambda name: f"{_PREFIXES.get(name[1], name[1])}_none", template)
        for method in methods:
            assert listed(method, path) == listed(method, f"/v1{path}"), f"{method} {path}"


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run_as_printed(
    example: str, server: ServerProcess, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    example = example.replace("http://127.0.0.1:3000", server.url).replace("http://127.0.0.1:1234/v1", upstream.url)
    if "import " in example:
        program = tmp_path / "example.py"
        program.write_text(example)
        environment = {**os.environ, "PYTHONPATH": str(TOP), "PYTHONWARNINGS": "ignore"}
        done = run_forked([str(program)], env=environment, cwd=tmp_path, timeout_s=50)
    else:
        command = ["bash", "-euo", "pipefail", "-c", example]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_many_pages_have_examples_that_run() -> None:
    assert len(EXAMPLES) >= 10


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
