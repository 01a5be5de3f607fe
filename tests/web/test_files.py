"""Files dropped on the composer: uploaded, indexed visibly, searched, and cited by footnotes that open the passage."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import Page
from tests.web.states import DROP, FERRY

SEARCH = Reply(tool_calls=[("file_search", {"query": "ferry"})])


def _chips(page: Page, css: str = "#chips [data-file]") -> list[str]:
    return [chip.text.rstrip(" \u00d7") for chip in page.all(css)]


def _drop(page: Page, name: str = "ferry.txt", text: str = FERRY) -> None:
    seen = len(_chips(page))
    page.js(DROP, name, text)
    page.eventually(lambda: len(_chips(page)) == seen + 1, "the file is there")


def test_a_dropped_file_is_cited_and_its_footnote_opens_the_passage(page: Page, up: ScriptedUpstream) -> None:
    _drop(page)
    assert _chips(page) == ["ferry.txt"]
    up.script(SEARCH, Reply("At seven 【0:0†source】, *but* on Monday."))
    page.send("When does it leave?")
    page.shows("ferry.txt done", "At seven", limit_s=30)
    assert _chips(page) == []
    page.idle()
    (note,) = page.all("sup button")
    assert [note.text, note.get_attribute("aria-expanded")] == ["1", None]
    note.click()
    page.eventually(lambda: page.all("blockquote"), "the passage")
    (quote,) = page.all("blockquote")
    assert quote.text == f"ferry.txt\n{FERRY}"
    assert note.get_attribute("aria-expanded") == "true"
    assert page.axe() == []
    note.click()
    assert page.all("blockquote") == []
    page.reload()
    page.shows("ferry.txt done", "file_search")
    page.eventually(lambda: page.all("sup button"), "the footnote")[0].click()
    page.eventually(lambda: page.all("blockquote"), "the passage again")


@pytest.mark.soak
def test_a_later_question_is_answered_from_the_thread_s_files_too(page: Page, up: ScriptedUpstream) -> None:
    _drop(page)
    up.script(Reply("Noted."), SEARCH, Reply("At seven in the morning from Piraeus."))
    page.send("Read this.")
    page.shows("Noted.", limit_s=30)
    page.idle()
    page.send("When does the ferry leave?")
    page.shows("from Piraeus.")
    page.idle()
    assert len(page.all("sup button")) == 1


def test_several_files_can_be_chosen_and_removed(page: Page, up: ScriptedUpstream, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"{name}: {FERRY}")
    page.by_id("files").send_keys(f"{tmp_path / 'a.txt'}\n{tmp_path / 'b.txt'}")
    page.eventually(lambda: _chips(page) == ["a.txt", "b.txt"], "both are there")
    page.all("#chips button")[0].click()
    up.script(Reply("Yes."))
    page.send("Got it?")
    page.shows("Yes.")
    assert _chips(page, ".me .mark")[0].startswith("b.txt")
    assert len(_chips(page, ".me .mark")) == 1


@pytest.mark.soak
def test_an_unreadable_file_shows_the_error_next_to_its_name(page: Page, up: ScriptedUpstream) -> None:
    _drop(page, "broken.pdf", "%PDF-1.7 no more than this")
    up.script(Reply("Hm."))
    page.send("What is in it?")
    page.shows("Hm.")
    page.eventually(lambda: "PDF" in _chips(page, ".me .mark")[0], "why it is not indexed", limit_s=30)


def test_a_failed_upload_is_reported_and_leaves_nothing(tab: Page, locked: ServerProcess) -> None:
    tab.fresh(server=locked)
    tab.js(DROP, "ferry.txt", FERRY)
    tab.shows("invalid_api_key", "enter the key under Set-up")
    assert _chips(tab, "#chips *") == []


@pytest.mark.soak
def test_markers_in_code_stay_text(page: Page, up: ScriptedUpstream) -> None:
    _drop(page)
    up.script(SEARCH, Reply("Write `x` like【0:0†source】\n\n```\n【0:0†source】\n```"))
    page.send("How?")
    page.shows("Write")
    page.idle()
    assert len(page.all("sup button")) == 1
    assert "【0:0†source】" in page.all("pre code")[0].text


GIVE = """
const [files, target, text] = arguments, data = new DataTransfer();
for (const [name, type, base64, padding] of files) {
	const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
	data.items.add(new File([bytes, new Uint8Array(padding)], name, { type }));
}
for (const kind in text) data.setData(kind, text[kind]);
const init = { bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data };
const event = target === 'human' ? new ClipboardEvent('paste', init) : new DragEvent('drop', init);
return document.getElementById(target).dispatchEvent(event);
"""


def _give(page: Page, target: str, *files: tuple[str, str, str, int], **text: str) -> bool:
    """Paste files (name, type, base64, appended zeros) into `human`, or drop them. Returns whether the browser's
    default action applies."""
    return bool(page.js(GIVE, files, target, {f"text/{kind}": each for kind, each in text.items()}))


DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

PNG = ("dot.png", "image/png", DOT, 0)
BMP = ("dot.bmp", "image/bmp", "Qk06AAAAAAAAADYAAAAoAAAAAQAAAAEAAAABABgAAAAAAAQAAAAAAAAAAAAAAAAAAAAAAAAA/wAAAA==", 0)
HUGE = ("huge.png", "image/png", DOT, 21 * 1024 * 1024)
BROKEN = ("broken.png", "image/png", "SGVsbG8=", 0)
DRAWING = ("drawing.svg", "image/svg+xml", "PHN2Zy8+", 0)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("human", id="pasted"),
        pytest.param("compose", id="dropped", marks=pytest.mark.soak),
        pytest.param("log", id="dropped outside", marks=pytest.mark.soak),
    ],
)
def test_an_image_is_sent_to_the_model_instead_of_the_index(page: Page, up: ScriptedUpstream, target: str) -> None:
    assert not _give(page, target, PNG)
    page.eventually(lambda: len(_chips(page)) == 1, "the picture is attached")
    up.script(Reply("A dot."))
    page.send("What is this?")
    page.shows("A dot.")
    page.idle()
    kinds = [part["type"] for part in up.requests[-1].body["messages"][-1]["content"]]
    assert kinds == ["text", "image_url"]
    (message,) = [m for m in _messages(page) if m["role"] == "user"]
    assert [part["type"] for part in message["content"]] == ["text", "image_file"]
    assert message["attachments"] == []
    page.reload()
    page.shows("What is this?", "dot.png")
    assert "[image_file]" not in page.log


@pytest.mark.soak
@pytest.mark.parametrize("picture", [BMP, HUGE], ids=["another kind", "too large"])
def test_an_image_of_an_unsupported_format_is_converted(
    page: Page, up: ScriptedUpstream, picture: tuple[str, str, str, int]
) -> None:
    _give(page, "human", picture)
    page.eventually(lambda: len(_chips(page)) == 1, "the picture is attached")
    up.script(Reply("A dot."))
    page.send("What is this?")
    page.shows("A dot.")
    image = up.requests[-1].body["messages"][-1]["content"][1]["image_url"]["url"]
    assert image.startswith("data:image/jpeg;base64,")
    assert len(image) < 10_000


@pytest.mark.soak
def test_a_refused_file_does_not_affect_others(page: Page, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("A note.")
    data = {"items": [], "files": [str(tmp_path / name) for name in ("folder", "notes.txt")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.browser.cdp("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)
    page.shows("“folder” cannot be read. If it is a folder, add the files in it.")
    page.eventually(lambda: _chips(page) == ["notes.txt"], "the other is attached")
    _give(page, "compose", DRAWING, BROKEN, PNG)
    for name in ("drawing.svg", "broken.png"):
        page.shows(f"Models cannot see “{name}”. Convert it to PNG or JPEG.")
    page.eventually(lambda: _chips(page) == ["notes.txt", "dot.png"], "the other is attached")


def test_text_pasted_with_its_image_is_pasted_as_text(page: Page) -> None:
    assert _give(page, "human", PNG, plain="1\t2", html="<table><tr><td>1<td>2</table>")
    assert not _give(page, "human", PNG, html="<img src=dot.png>")
    page.eventually(lambda: len(_chips(page)) == 1, "the copied picture alone is attached")


def _messages(page: Page) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = page.server.request("GET", f"/threads/{page.thread_id()}/messages")["data"]
    return rows


BLIND = {
    "llama.cpp": {"capabilities": ["completion"]},
    "mistral": {"capabilities": {"vision": False}},
    "openrouter": {"architecture": {"input_modalities": ["text"]}},
}


@pytest.fixture(scope="module")
def catalogue(start_server: Callable[..., ServerProcess]) -> Iterator[ServerProcess]:
    """A server whose engine reports which of its models accept images."""
    listed = [{"id": name, "object": "model", **entry} for name, entry in BLIND.items()]
    with ScriptedUpstream(models=[*listed, {"id": "unknown", "object": "model"}]) as upstream:
        yield start_server(MODEL_URL=upstream.url, MODEL_ALIASES="gpt-4o=mistral")


@pytest.mark.parametrize(
    "model",
    [*(pytest.param(model, marks=() if model == "llama.cpp" else pytest.mark.soak) for model in BLIND), "gpt-4o"],
)
def test_an_image_for_a_model_without_vision_is_refused_before_sending(
    tab: Page, catalogue: ServerProcess, model: str
) -> None:
    tab.fresh(server=catalogue)
    tab.open_setup()
    tab.type("model", model)
    _give(tab, "human", PNG)
    tab.eventually(lambda: f"“{model}” cannot see pictures" in tab.by_id("blind").text, "it is said at once")
    tab.eventually(lambda: len(_chips(tab)) == 1, "the picture is attached")
    tab.send("What is this?")
    assert (len(_chips(tab)), tab.thread_id()) == (1, "")
    tab.type("model", "unknown")
    tab.eventually(lambda: not tab.by_id("blind").is_displayed(), "another model may see it")
