import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.page import build_page, hashes
from tests.web.seal import PAGE, sealed

_FUZZ = Path(__file__).parent / "fuzz.mjs"


def _html() -> str:
    return PAGE.read_text(encoding="utf-8")


def _between(name: str) -> str:
    found = re.search(rf"/\* {name}:begin \*/(.*?)/\* {name}:end \*/", _html(), re.DOTALL)
    assert found
    return found[1]


def _pairs() -> dict[str, list[Any]]:
    """Return the page's texts: English and French by key."""
    lines = [line.split("|") for line in _between("strings").strip(" `\n").splitlines()]
    assert {len(line) for line in lines} == {3}
    assert len({key for key, *_ in lines}) == len(lines)
    return {**{key: pair for key, *pair in lines}, "presets": json.loads(_between("presets"))}


def strings() -> dict[str, dict[str, Any]]:
    """The texts by language."""
    return {lang: {key: pair[place] for key, pair in _pairs().items()} for place, lang in enumerate(("en", "fr"))}


def test_the_page_contains_the_hashes_of_its_script_and_style() -> None:
    assert sealed(_html()) == _html(), "run `python -m tests.web.seal`"


def test_the_page_is_small() -> None:
    assert len(gzip.compress(PAGE.read_bytes())) < 64 * 1024


def test_the_page_names_no_other_host() -> None:
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=['\"]?(https?:)?//", _html())
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|style=", _html())


def test_french_and_english_have_the_same_texts() -> None:
    for key, (english, french) in _pairs().items():
        if isinstance(english, str):
            assert english, key
            assert french, key
            assert sorted(re.findall(r"\{\d\}", english)) == sorted(re.findall(r"\{\d\}", french)), key
        else:
            assert key == "presets"
            assert len(english) == len(french) == 3
            assert all(one.keys() == {"name", "system", "human"} for one in (*english, *french))


def test_every_text_that_the_page_uses_is_in_the_tables() -> None:
    html, known = _html(), set(_pairs())
    asked = set(re.findall(r"data-[tlp]=(\w+)", html))
    asked |= set(re.findall(r"<label for=(\w+) data-t>", html)) | set(re.findall(r"id=(\w+) data-t[ >]", html))
    asked |= set(re.findall(r"\bt: \[?'(\w+)'[,\] }]", html))
    asked |= set(re.findall(r"\b(?:tell|t|word|button)\('(\w+)'[,)]", html))
    assert len(asked) > 50
    assert asked <= known


def test_the_policy_allows_only_the_page_s_own_code() -> None:
    app = FastAPI()
    app.include_router(build_page())
    answer = TestClient(app).get("/")
    policy = answer.headers["content-security-policy"]
    assert answer.text == _html()
    assert f"script-src {hashes(answer.text, 'script')};" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_events_are_parsed_alike_at_every_chunk_boundary() -> None:
    done = subprocess.run(["node", str(_FUZZ), str(PAGE)], capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
