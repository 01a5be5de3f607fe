"""Markdown becomes nodes while it arrives, the same nodes as for the complete text."""

import random

import pytest

from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import Page

TEXT = """\
# Title with `code`

A paragraph with **strong**, *soft*, ~~gone~~ and `code`; a [link](https://example.test/a?b=1&c=2 "title"),
a bare https://example.test/bare, and 2 * 3 * 4, snake_case_name, \\*not soft\\*.
A line\u0020\u0020
broken.

- one
- two **strong**
  - inner
    more of inner

  a second paragraph
- three

3. third
4. fourth

> quoted
> > twice
> - with a list

```python
def f(x: int) -> str:
    return "<b>&amp;</b>" * x

# not a heading
```

| left | right |
|------|------:|
| a    | `b|c` |
| **d** |      |

---

~~~
tildes ``` inside
~~~

Émoji 👩\u200d👩\u200d👧 and \u4e2d\u6587. The end.
"""
_BODY = "return document.querySelector('#log .md').innerHTML"


def _counts(page: Page) -> dict[str, int]:
    kinds = ("h3", "p", "strong", "em", "del", "code", "a", "ul", "ol", "li", "blockquote", "pre", "table", "hr", "br")
    return {kind: len(page.all(f"#log .md {kind}")) for kind in kinds}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 10))])
def test_a_streamed_answer_equals_the_loaded_one(page: Page, up: ScriptedUpstream, seed: int) -> None:
    dice, chunks, at = random.Random(seed), [], 0
    while at < len(TEXT):
        size = dice.choice((1, 1, 2, 3, 7, 30))
        chunks.append(TEXT[at : at + size])
        at += size
    up.script(Reply(chunks=chunks))
    page.send("Write")
    page.shows("The end.")
    page.idle()
    streamed = page.js(_BODY)
    page.reload()
    page.shows("The end.")
    assert page.js(_BODY) == streamed


def test_each_construct_becomes_its_element(page: Page, up: ScriptedUpstream) -> None:
    up.script(Reply(chunks=[TEXT]))
    page.send("Write")
    page.shows("The end.")
    page.idle()
    counts = _counts(page)
    expected = {"h3": 1, "em": 1, "del": 1, "ul": 3, "ol": 1, "li": 7, "blockquote": 2, "pre": 2, "table": 1, "hr": 1}
    assert {kind: counts[kind] for kind in expected} == expected
    assert counts["br"] == 1
    assert [a.get_attribute("href") for a in page.all("#log .md a")] == [
        "https://example.test/a?b=1&c=2",
        "https://example.test/bare",
    ]
    assert all(a.get_attribute("rel") == "noopener noreferrer nofollow" for a in page.all("#log .md a"))
    assert "(example.test)" in page.log  # the target of a link is shown
    assert "2 * 3 * 4, snake_case_name, *not soft*" in page.log
    assert [li.get_attribute("start") for li in page.all("#log .md ol")] == ["3"]
    assert page.js("return document.querySelector('#log .md pre').textContent").rstrip() == (
        'def f(x: int) -> str:\n    return "<b>&amp;</b>" * x\n\n# not a heading'
    )


def test_a_code_block_and_a_complete_answer_can_be_copied(page: Page, up: ScriptedUpstream) -> None:
    up.script(Reply(chunks=["Here:\n\n```sh\necho 'a'\n", "echo b\n```\n\nThat is it."]))
    page.send("Write")
    page.shows("That is it.")
    page.idle()
    page.all("#log .block button")[0].click()
    page.eventually(lambda: page.all("#log .block button")[0].text == "Copied", "it says so")
    assert page.copied() == "echo 'a'\necho b"
    page.press("Copy")
    page.eventually(lambda: page.copied() == "Here:\n\n```sh\necho 'a'\necho b\n```\n\nThat is it.", "all is copied")
