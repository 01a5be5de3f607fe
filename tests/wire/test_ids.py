"""Ids: their form, their randomness, and ids that are derived from a key."""

import re
import time

from wire.ids import derive_id, new_id


def test_an_id_is_a_prefix_and_24_alphanumerics() -> None:
    assert re.fullmatch(r"thread_[0-9A-Za-z]{24}", new_id("thread"))
    assert re.fullmatch(r"msg_[0-9A-Za-z]{24}", derive_id("msg", "run_1", 0))


def test_random_ids_do_not_repeat() -> None:
    assert len({new_id("run") for _ in range(10_000)}) == 10_000


def test_later_ids_sort_later_as_bytes() -> None:
    made = []
    for _ in range(4):
        made.append(new_id("run").encode())
        time.sleep(0.07)
    assert sorted(made) == made


def test_ids_of_one_moment_differ_in_all_random_letters() -> None:
    made = [new_id("run").removeprefix("run_") for _ in range(1000)]
    for place in range(6, 24):
        assert len({id[place] for id in made}) > 50


def test_a_derived_id_depends_on_its_key_only() -> None:
    places = [("run_1", 0), ("run_1", 1), ("run_2", 0), ("run_1", 0, "calls"), ("run_10",), ("run_1",)]
    assert len({derive_id("step", *place) for place in places}) == len(places)
    assert derive_id("step", "run_1", 0) == derive_id("step", "run_1", 0)
    assert derive_id("step", "run_1", 0)[5:] != derive_id("msg", "run_1", 0)[4:]
