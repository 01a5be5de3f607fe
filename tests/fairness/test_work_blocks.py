import pytest

from fairness.work_blocks import split_into_blocks


@pytest.mark.parametrize(
    ("texts", "blocks"),
    [
        ([], []),
        (["a"], [["a"]]),
        (["a", "b", "c", "d"], [["a", "b", "c"], ["d"]]),
        (["aa", "bbb", "c"], [["aa", "bbb"], ["c"]]),
        (["a" * 9, "b"], [["a" * 9], ["b"]]),
        (["a", "b" * 9, "c"], [["a"], ["b" * 9], ["c"]]),
        (["", "", "", ""], [["", "", ""], [""]]),
    ],
    ids=["nothing", "one", "too many", "too long together", "one too long", "one too long between", "empty"],
)
def test_blocks_keep_the_order_and_both_limits(texts: list[str], blocks: list[list[str]]) -> None:
    assert list(split_into_blocks(texts, len, max_items=3, max_length=5)) == blocks
