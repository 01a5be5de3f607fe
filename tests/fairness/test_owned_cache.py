"""A shared cache: which values are evicted, and whose."""

import pytest

from fairness.owned_cache import OwnedCache


def filled(*entries: tuple[str, str, int], max_entries: int = 4, max_size: int = 100) -> OwnedCache[str, str]:
    cache: OwnedCache[str, str] = OwnedCache(max_entries=max_entries, max_size=max_size)
    for owner, key, size in entries:
        cache.put(owner, key, key, size)
    return cache


def kept(cache: OwnedCache[str, str], owner: str, *keys: str) -> list[str]:
    return [key for key in keys if cache.get(owner, key) is not None]


def test_the_least_recently_used_value_is_evicted() -> None:
    cache = filled(("ann", "1", 1), ("ann", "2", 1), ("ann", "3", 1), ("ann", "4", 1))
    cache.get("ann", "1")
    cache.put("ann", "5", "5", 1)
    assert kept(cache, "ann", "1", "2", "3", "4", "5") == ["1", "3", "4", "5"]


@pytest.mark.parametrize(("count", "size"), [(100, 1), (3, 90), (100, 90)], ids=["many", "large", "both"])
def test_an_owner_with_fewer_values_keeps_them(count: int, size: int) -> None:
    cache = filled(("bob", "1", 10))
    for number in range(count):
        cache.put("ann", str(number), "x", size)
    assert kept(cache, "bob", "1") == ["1"]
    assert kept(cache, "ann", str(count - 1))


def test_owners_have_separate_values_under_the_same_key() -> None:
    cache = filled(("ann", "1", 1))
    assert cache.get("bob", "1") is None


def test_of_equal_owners_the_least_recent_value_is_evicted() -> None:
    cache = filled(("ann", "1", 1), ("bob", "1", 1), ("cid", "1", 1), ("dan", "1", 1))
    cache.get("ann", "1")
    cache.put("eve", "1", "1", 1)
    assert [owner for owner in ("ann", "bob", "cid", "dan", "eve") if kept(cache, owner, "1")] == [
        "ann",
        "cid",
        "dan",
        "eve",
    ]


def test_a_replaced_value_counts_once_and_an_oversized_one_never() -> None:
    cache = filled(("ann", "1", 60), ("ann", "1", 60), ("ann", "2", 40))
    assert kept(cache, "ann", "1", "2") == ["1", "2"]
    cache.put("bob", "3", "3", 101)
    assert kept(cache, "bob", "3") == []
