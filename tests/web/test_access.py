"""Accessibility: axe has no findings, the keyboard suffices, screen readers get turns and not tokens, phones work."""

import re
from collections.abc import Iterator

import pytest

from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import ENTER, ESCAPE, SHIFT, TAB, Page
from tests.web.states import STATES

_THEMES = ("light", "dark")
_OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"

_LISTEN = """
window.__announced = [];
new MutationObserver(list => list.forEach(({ target }) => {
  const at = target.closest ? target : target.parentElement, live = at.closest('[role=status], [role=alert]');
  if (live) window.__announced.push(live.textContent);
})).observe(document.body, { subtree: true, childList: true, characterData: true });
"""


def _views(page: Page, *, phone_theme: str) -> Iterator[str]:
    """Yield the page in both themes, and in one of them on a phone."""
    for theme, width in (("light", 0), ("dark", 0), (phone_theme, 320)):
        page.look(theme=theme, width=width, reduced_motion=True)
        yield f"{theme} {width or 'wide'}"


_QUICK = ("answer", "assistant_dialog")
"""The states with the most elements; the other states, and the French ones, have a part of these elements."""
_SPOKEN = [
    pytest.param(state, language, marks=() if language == "en" and state in _QUICK else pytest.mark.soak)
    for state in STATES
    for language in ("en", "fr")
]


@pytest.mark.parametrize(("state", "language"), _SPOKEN)
def test_axe_has_no_findings(tab: Page, up: ScriptedUpstream, state: str, language: str) -> None:
    tab.fresh(language="en", reduced_motion=True)
    STATES[state](tab, up)
    if language == "fr":
        tab.js("const l = document.getElementById('lang'); l.value = 'fr'; l.dispatchEvent(new Event('change'))")
    found: dict[str, list[str]] = {}
    for view in _views(tab, phone_theme="light" if language == "en" else "dark"):
        for wrong in tab.axe():
            found.setdefault(wrong, []).append(view)
    up.release()
    assert not found, "\n\n".join(f"{' and '.join(views)}: {wrong}" for wrong, views in found.items())


@pytest.mark.parametrize(
    "state", [pytest.param(state, marks=() if state in _QUICK else pytest.mark.soak) for state in STATES]
)
def test_a_phone_of_320_px_needs_no_sideways_scrolling(tab: Page, up: ScriptedUpstream, state: str) -> None:
    tab.fresh(width=320)
    STATES[state](tab, up)
    up.release()
    assert tab.js(_OVERFLOW) <= 0
    beyond = tab.js(
        "return [...document.querySelectorAll('button, input, select, textarea, a, h2, p')]"
        ".filter(e => e.checkVisibility() && !e.closest('nav, .sr, .skip, pre, .wide'))"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.id || e.outerHTML)"
    )
    assert beyond == []


_PLACEHOLDERS = """
const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const light = colour => {
  paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
  const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
};
return [...document.querySelectorAll('[placeholder]')].filter(e => e.placeholder && e.checkVisibility()).map(e => {
  const a = light(getComputedStyle(e, '::placeholder').color), b = light(getComputedStyle(e).backgroundColor);
  return [e.id, Math.max(a, b) / Math.min(a, b)];
});
"""


@pytest.mark.parametrize("theme", _THEMES)
def test_placeholders_are_readable(page: Page, theme: str) -> None:
    """axe does not check them; 4.5 to 1 is WCAG's AA."""
    page.look(theme=theme)
    page.open_setup()
    result = page.js(_PLACEHOLDERS)
    assert len(result) >= 5
    assert [id for id, contrast in result if contrast < 4.5] == []


def _focus(page: Page) -> str:
    return str(page.js("return document.activeElement.id || document.activeElement.tagName"))


def _keys(page: Page, *keys: str) -> None:
    page.driver.switch_to.active_element.send_keys(*keys)


def _tab_to(page: Page, id: str, *, key: str = TAB) -> None:
    """Press Tab until that element has the focus; each element on the way must show its focus."""
    for _ in range(60):
        if _focus(page) == id:
            return
        _keys(page, key)
        outline = page.js("const s = getComputedStyle(document.activeElement); return s.outlineStyle + s.outlineWidth")
        assert outline == "solid2px", f"{_focus(page)} has the focus, but does not show it: {outline}"
    raise AssertionError(f"Tab does not reach {id}")


def test_a_conversation_works_by_keyboard(page: Page, up: ScriptedUpstream) -> None:
    _keys(page, TAB)
    assert _focus(page) == "skip"
    _keys(page, ENTER)
    assert _focus(page) == "human"
    _keys(page, "By hand", ENTER)
    page.shows("Echo: By hand")
    page.idle()
    assert _focus(page) == "human"
    up.script(Reply("one two three four", pause_after=3))
    _keys(page, "Again", ENTER)
    page.shows("one two")
    _keys(page, ESCAPE)
    page.shows("Stopped")
    page.idle()
    _tab_to(page, "rename", key=SHIFT + TAB)
    _keys(page, ENTER)
    page.answer("Renamed")
    page.until("return document.getElementById('title').textContent === 'Renamed'", "it is renamed")
    assert _focus(page) == "rename"
    _tab_to(page, "new", key=SHIFT + TAB)
    _keys(page, ENTER)
    page.until("return document.querySelector('#log .hello')", "a new thread")
    assert _focus(page) == "human"


def test_a_form_is_filled_and_sent_by_keyboard(page: Page, up: ScriptedUpstream) -> None:
    STATES["requires_action"](page, up)
    assert page.js("return document.activeElement === document.querySelector('form.ask textarea')")
    up.script(Reply("Thanks."))
    for _ in range(10):
        if page.js("return document.activeElement.matches('form.ask button')"):
            break
        if page.js("return document.activeElement.matches('form.ask textarea')"):
            _keys(page, "Mild.")
        _keys(page, TAB)
    _keys(page, ENTER)
    page.shows("Thanks.")
    page.idle()


def test_on_a_phone_threads_open_on_press_and_close_on_esc(page: Page) -> None:
    page.server.request("POST", "/threads", {"metadata": {"title": "Pocket"}})
    page.fresh(width=320)
    assert not page.by_id("nav").is_displayed()
    page.click("more")
    page.eventually(lambda: page.driver.find_element("link text", "Pocket").is_displayed(), "the list is there")
    assert page.by_id("more").get_attribute("aria-expanded") == "true"
    _keys(page, ESCAPE)
    page.eventually(lambda: not page.by_id("nav").is_displayed(), "the list is gone")
    assert _focus(page) == "more"
    page.click("more")
    page.open_thread("Pocket")
    page.until("return document.getElementById('title').textContent === 'Pocket'", "the thread opens")
    assert not page.by_id("nav").is_displayed()


def test_a_screen_reader_gets_the_turns_and_not_the_tokens(page: Page, up: ScriptedUpstream) -> None:
    page.js(_LISTEN)
    up.script(Reply(" ".join(f"word{number}" for number in range(150)), delay_s=0.002))
    page.send("Talk")
    page.shows("word149")
    page.idle()
    page.until("return document.getElementById('announcer').textContent.includes('150')", "the end is announced")
    result = page.js("return window.__announced")
    assert "Generating" in result
    assert "Done, 150 words" in result
    assert len(result) <= 8
    assert not [text for text in result if re.search(r"word\d", text)]
    log = page.by_id("log")
    assert (log.get_attribute("role"), log.get_attribute("aria-live")) == ("log", "off")


@pytest.mark.soak
def test_reduced_motion_stops_all_motion(page: Page, up: ScriptedUpstream) -> None:
    moving = "return document.getAnimations().length"
    for reduced_motion in (False, True):
        page.fresh(reduced_motion=reduced_motion)
        up.script(Reply("one two three four", pause_after=3))
        page.send("Move")
        page.shows("one two")
        assert bool(page.js(moving)) != reduced_motion
        up.release()
        page.shows("four")
        page.idle()


def test_the_theme_follows_the_system(page: Page) -> None:
    back = "return getComputedStyle(document.body).backgroundColor"
    page.look(theme="light")
    light = page.js(back)
    page.look(theme="dark")
    assert page.js(back) != light
