"""A long answer streams without noticeable dropped frames.

The machine is shared with the server and the model. Therefore, the time limits apply to shares and to most frames, not
to the slowest one; a second attempt is allowed; and only `make soak` runs this test. How often styles are computed does
not depend on the machine.
"""

import json
from typing import Any

import pytest

from tests.upstream import Raw, ScriptedUpstream
from tests.web.page import Page

_TOKENS = 20_000
_AT_ONCE, _PAUSE_S = 20, 0.004  # 3,000 to 4,000 tokens a second, more than any model generates
_P95_GAP_MS = 50.0  # three frames of 60 a second
_BLOCKED_SHARE = 0.15  # of the time, in tasks of more than 50 ms
_STYLES_A_FRAME = 6
_WATCH = """
window.__gaps = []; window.__long = [];
new PerformanceObserver(l => l.getEntries().forEach(e => window.__long.push(e.duration))).observe({ type: 'longtask' });
let last = performance.now();
const tick = now => { window.__gaps.push(now - last); last = now; requestAnimationFrame(tick); };
requestAnimationFrame(tick);
"""


def _tokens(count: int) -> list[str]:
    """Return a long text with headings, paragraphs, code and lists."""
    special = {0: "\n\n## Part\n\n", 200: "\n\n```py\n", 260: "\n```\n\n"}
    tokens = []
    for number in range(count):
        at = number % 400
        filler = "\n- item" if at > 340 and at % 12 == 0 else ".\n\n" if at % 60 == 59 else f" word{number}"
        tokens.append(special.get(at, filler))
    return tokens


def _frame(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _stream(count: int) -> Raw:
    frames = [_frame({"role": "assistant", "content": token}) for token in (*_tokens(count), " THE END")]
    frames += [_frame({}, "stop"), b"data: [DONE]\n\n"]
    return Raw(
        [b"".join(frames[start : start + _AT_ONCE]) for start in range(0, len(frames), _AT_ONCE)], delay_s=_PAUSE_S
    )


def _styles(page: Page) -> float:
    """Return how often the page's styles have been computed so far."""
    metrics: list[dict[str, Any]] = page.browser.cdp("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "RecalcStyleCount"))


def _send(page: Page, up: ScriptedUpstream, count: int) -> None:
    """Stream an answer of `count` tokens, and check that the page shows all of it."""
    up.script(_stream(count))
    page.js(_WATCH)
    page.send("Long")
    page.until("return document.getElementById('log').textContent.includes('THE END')", "all is there", limit_s=25)
    page.idle()
    assert page.js("return document.querySelectorAll('#log .md h3, #log .md h4').length") == count / 400


def test_styles_are_computed_a_few_times_a_frame(page: Page, up: ScriptedUpstream) -> None:
    page.browser.cdp("Performance.enable")
    before = _styles(page)
    _send(page, up, 4_000)
    assert _styles(page) - before < _STYLES_A_FRAME * page.js("return window.__gaps.length") + 100
    page.browser.cdp("Performance.disable")


@pytest.mark.soak
def test_20000_tokens_stream_without_noticeable_dropped_frames(page: Page, up: ScriptedUpstream) -> None:
    for is_last in (False, True):
        page.fresh()
        _send(page, up, _TOKENS)
        gaps, long = page.js("return [window.__gaps, window.__long]")
        p95, blocked = sorted(gaps)[int(len(gaps) * 0.95)], sum(long) / sum(gaps)
        if p95 <= _P95_GAP_MS and blocked <= _BLOCKED_SHARE:
            break
        assert not is_last, f"p95 of the gaps between frames {p95:.0f} ms, {blocked:.0%} of the time blocked"
