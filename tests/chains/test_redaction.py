"""An upstream's credentials are removed from texts, bodies and streams, however streams are split into blocks."""

import pytest

from chains.redaction import BlockRedactor, redact, redact_bytes, spellings

SECRETS = spellings(["sk-a/b+c", "sk-a", None, "", "abc"])


def test_each_spelling_is_removed_and_short_secrets_stay() -> None:
    text = r"sk-a/b+c sk-a\/b+c sk-a%2Fb%2Bc sk-a abc"
    assert redact(text, SECRETS) == "*** *** *** *** abc"
    assert redact_bytes(text.encode(), SECRETS) == b"*** *** *** *** abc"


@pytest.mark.parametrize("size", range(1, 12))
def test_a_secret_in_two_blocks_is_removed(size: int) -> None:
    text = b"event: sk-a/b+c, sk-, s sk-a%2Fb%2Bc"
    redactor = BlockRedactor(spellings(["sk-a/b+c"]))
    blocks = [redactor.feed(text[start : start + size]) for start in range(0, len(text), size)]
    assert b"".join([*blocks, redactor.end()]) == b"event: ***, sk-, s ***"


def test_a_block_without_the_beginning_of_a_secret_is_passed_on_whole() -> None:
    block = b'data: {"choices": []}\n\n'
    redactor = BlockRedactor(SECRETS)
    assert redactor.feed(block) == block
    assert redactor.end() == b""


def test_a_stream_without_secrets_is_unchanged() -> None:
    assert BlockRedactor(()).feed(b"anything sk-a") == b"anything sk-a"
