"""A page's text is what a browser shows or reads aloud, at any depth of nesting."""

import re

import pytest

from documents.webpages import read_page


@pytest.mark.parametrize(
    "html",
    [
        "<title>yes</title>",
        "<html><head><title> yes\n</title></head><body></body></html>",
        "<meta name=Description content='yes'>",
        "<meta property=og:description content=yes><meta name=keywords content=no>",
        "<img src=no alt=yes>",
        "<map><area alt=yes href=no></map>",
        "<button aria-label=yes><svg></svg></button>",
        "<button aria-label=no>yes</button>",
        "<a aria-label=no href=no><b><i>yes</i></b></a>",
        "<noscript>yes</noscript><script>no</script><style>no</style>",
        "<template><p>yes</p></template>",
        "<textarea>yes</textarea><input type=hidden value=no><input type=password value=no>",
        "<input value=yes>",
        "<select><option value=no>yes</option></select>",
        "<p hidden>no</p><p style='color: red; display : none'>no</p><p>yes</p>",
        "<p style='visibility:hidden'>no</p><div><div hidden>no</div>yes</div>",
        "<svg><text>yes</text></svg>",
        "<details><summary>yes</summary></details>",
        "<iframe>no</iframe><datalist><option>no</datalist>yes",
        "yes",
    ],
)
def test_only_the_visible_text_of_a_page_is_read(html: str) -> None:
    assert read_page(html).split() == ["yes"]


@pytest.mark.parametrize("tag", ["div", "span", "b", "ul><li", "table><tr><td", "blockquote", "font"])
@pytest.mark.parametrize("depth", [300, 5000])
def test_deep_nesting_loses_no_text(tag: str, depth: int) -> None:
    html = f"<p>before</p>{f'<{tag}>' * depth}<p>deep</p><p>words</p>{'</div>' * depth}<p>after</p>"
    assert re.findall(r"\w{2,}", read_page(html)) == ["before", "deep", "words", "after"]


def test_lines_are_those_of_the_page() -> None:
    html = "<title>T</title><section>a</section><section>b</section><select><option>c<option>d</select>"
    html += "<table><tr><td>1<td>2</table>"
    assert [line.split() for line in read_page(html).split("\n") if line.strip()] == [
        ["T"],
        ["a"],
        ["b"],
        ["c"],
        ["d"],
        ["1", "2"],
    ]


def test_references_to_windows_letters_are_read_as_in_browsers() -> None:
    assert read_page("it&#146;s 5&nbsp;&#128; &#150; &auml;&#x738b;").strip() == "it’s 5 € – ä王"


def test_letters_at_the_end_of_a_block_are_complete() -> None:
    assert read_page("<p>" + "ü王" * 100_000).strip() == "ü王" * 100_000
