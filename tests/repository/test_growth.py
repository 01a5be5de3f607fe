"""Code that reads untrusted text on the event loop takes time in proportion to its length."""

from collections.abc import Callable
from typing import Any

import pytest

from chains.calls.call_detector import CallDetector
from chains.error_responses import read_error_response
from retrieval.citations import Citations
from retrieval.grounding import supporting_passages
from tests.cpu_time import limit_cpu_time

NAMES = ["getWeather", "getTime"]


def hold(text: str, size: int = 100_000) -> None:
    holder = CallDetector(NAMES)
    for start in range(0, len(text), size):
        holder.feed(text[start : start + size])
    assert holder.text == text


def cite(text: str) -> None:
    list(Citations({"0:0": {"file_id": "f", "text": "a", "asked": ""}}).feed(text))


def rest(text: str) -> None:
    source: Any = {"file_id": "f", "text": "Hidden marmots whistle. " * 100, "asked": "what"}
    supporting_passages(text, {f"0:{number}": source for number in range(300)})


def refuse(text: str) -> None:
    read_error_response(text.encode(), status=500)


CASES: dict[str, tuple[Callable[[str], None], str]] = {
    "a long word that ends as none": (hold, "a" * 100_000 + "!"),
    "words and blanks": (hold, "getWeather" + " " * 100_000 + "!"),
    "a brace and blanks, piece by piece": (lambda text: hold(text, 3), "{" + " " * 100_000),
    "a call without an end, piece by piece": (lambda text: hold(text, 3), '{"name": "' + "x" * 200_000),
    "braces": (hold, "{ " * 50_000),
    "brackets": (cite, "[" * 200_000),
    "partial markers": (cite, "【4:0†" * 30_000),
    "many sentences": (rest, "Whatever others wrote. " * 20_000),
    "tags without an end": (refuse, "<script" * 3_000),
    "openings": (refuse, "<" * 20_000),
}


@pytest.mark.parametrize(("read", "text"), CASES.values(), ids=CASES)
def test_a_hostile_text_is_parsed_quickly(read: Callable[[str], None], text: str) -> None:
    limit_cpu_time(0.25, lambda: read(text))
