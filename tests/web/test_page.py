import gzip
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.page import build_page
from tests.web.sources import FILES, INDEX, LANGUAGES, scripts, texts

_FUZZ = Path(__file__).parent / "fuzz.mjs"
_MAX_LINES = 250
_MAX_COLUMNS = 120
_MAX_FIRST_LOAD = 64 * 1024  # bytes, compressed


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(build_page())
    with TestClient(app) as client:
        yield client


class _Markup(HTMLParser):
    """Collects the elements with their attributes and first text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], str]] = []
        self.feed(INDEX.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, ""))

    def handle_data(self, data: str) -> None:
        if self.elements and not self.elements[-1][2]:
            tag, attrs, _ = self.elements[-1]
            self.elements[-1] = tag, attrs, data.strip()


def test_the_markup_has_the_english_texts() -> None:
    english = texts("en")
    for tag, attrs, text in _Markup().elements:
        if "data-t" in attrs:
            key = attrs["data-t"] or attrs.get("for") or attrs["id"]
            assert text == english[key], (tag, attrs)
        if "data-l" in attrs:
            assert attrs["aria-label"] == attrs["title"] == english[attrs["data-l"]]
        if "data-p" in attrs:
            assert attrs["placeholder"] == english[attrs["data-p"]]
        if "data-unreachable" in attrs:
            assert attrs["data-unreachable"] == english["unreachable"]


def test_the_page_loads_all_its_scripts_from_its_own_folder() -> None:
    elements = _Markup().elements
    loaded = [attrs["src"] for tag, attrs, _ in elements if tag == "script"]
    assert sorted(loaded) == [f"page/{path.name}" for path in scripts()]
    assert all("defer" in attrs for tag, attrs, _ in elements if tag == "script")
    assert [attrs["href"] for tag, attrs, _ in elements if tag == "link"] == ["data:,", "page/style.css"]


def test_the_first_load_is_small() -> None:
    # a language is loaded alone
    first = [INDEX, FILES / "style.css", FILES / "fr.json", *scripts()]
    assert sum(len(gzip.compress(path.read_bytes())) for path in first) < _MAX_FIRST_LOAD


@pytest.mark.parametrize("path", [*scripts(), INDEX, FILES / "style.css"], ids=lambda path: path.name)
def test_the_sources_are_readable(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= _MAX_COLUMNS
    if path.suffix == ".js":
        assert len(lines) <= _MAX_LINES
        assert lines[0] == "'use strict';"
        assert lines[1].startswith("// "), "the second line says what the script does"


def test_the_page_makes_no_markup_from_text_and_names_no_other_host() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (INDEX, *scripts()))
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=['\"]?(https?:)?//", source)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\sstyle=", source)


def test_the_languages_have_the_same_texts() -> None:
    english, french = map(texts, LANGUAGES)
    assert english.keys() == french.keys()
    for key in english.keys() - {"presets"}:
        assert english[key], key
        assert french[key], key
        assert sorted(re.findall(r"\{\d\}", english[key])) == sorted(re.findall(r"\{\d\}", french[key])), key
    assert len(english["presets"]) == len(french["presets"]) == 3
    assert all(one.keys() == {"name", "system", "human"} for one in (*english["presets"], *french["presets"]))


def test_every_text_that_the_scripts_use_exists() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in scripts())
    used = set(re.findall(r"\bt: \[?'(\w+)'[,\] }]", source))
    used |= set(re.findall(r"\b(?:t|word|button|announce)\('(\w+)'[,)]", source))
    for choice in re.findall(r"\bsay\((?:\$\('\w+'\)|[\w.]+), ([^;\n]*)", source):
        used |= set(re.findall(r"'([A-Za-z]\w+)'", choice))
    assert len(used - {"s_"}) > 40
    assert used - {"s_"} <= texts("en").keys()


def test_every_text_is_used() -> None:
    used = set(re.findall(r"\w+", "\n".join(path.read_text(encoding="utf-8") for path in (INDEX, *scripts()))))
    assert {key for key in texts("en") if key not in used and not key.startswith(("s_", "h_"))} == set()


def test_the_policy_allows_only_the_page_s_own_files(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert answer.text == INDEX.read_text(encoding="utf-8")
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/page/style.css", "/page/fr.json"])
def test_a_file_is_sent_compressed_and_once(client: TestClient, path: str) -> None:
    first = client.get(path, headers={"accept-encoding": "gzip"})
    plain = client.get(path, headers={"accept-encoding": "gzip;q=0, br"})
    assert (first.headers["content-encoding"], "content-encoding" in plain.headers) == ("gzip", False)
    assert first.content == plain.content
    assert int(first.headers["content-length"]) < len(plain.content)
    tag = first.headers["etag"]
    for held in (tag, f'"other", W/{tag}', "*"):
        again = client.get(path, headers={"if-none-match": held})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200
    assert client.head(path).headers["etag"] == tag


@pytest.mark.parametrize("path", ["/page/", "/page/nothing.js", "/page/..%2Findex.html", "/page/%2e%2e/server.py"])
def test_only_the_page_s_files_are_sent(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_events_are_parsed_alike_at_every_chunk_boundary() -> None:
    command = ["node", str(_FUZZ), str(FILES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
