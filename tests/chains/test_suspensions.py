"""Suspensions are short at first, grow each time, are forgotten later, and affect one owner only."""

import pytest

from chains.suspensions import OwnerSuspended, Suspensions


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def left(suspensions: Suspensions, owner: str) -> int:
    try:
        suspensions.check(owner)
    except OwnerSuspended as error:
        return error.seconds
    return 0


def test_a_suspension_grows_with_each_end_up_to_a_limit() -> None:
    suspensions = Suspensions(is_shared=True, clock=Clock())
    lasts = []
    for _ in range(6):
        suspensions.count("alice")
        lasts.append(left(suspensions, "alice"))
    assert lasts == [60, 120, 240, 480, 600, 600]
    assert left(suspensions, "bob") == 0
    assert not suspensions.has_recent_crash("bob")


def test_a_suspension_ends_and_its_record_is_forgotten() -> None:
    clock = Clock()
    suspensions = Suspensions(is_shared=True, clock=clock)
    suspensions.count("alice")
    clock.now += 59.5
    assert left(suspensions, "alice") == 1
    clock.now += 1
    assert left(suspensions, "alice") == 0
    assert suspensions.has_recent_crash("alice")
    clock.now += 1_800
    assert not suspensions.has_recent_crash("alice")
    suspensions.count("alice")
    assert left(suspensions, "alice") == 60


def test_a_single_owner_is_never_suspended() -> None:
    suspensions = Suspensions(is_shared=False, clock=Clock())
    suspensions.count("")
    suspensions.check("")
    assert not suspensions.has_recent_crash("")


def test_the_message_states_the_wait_and_what_to_change() -> None:
    suspensions = Suspensions(is_shared=True, clock=Clock())
    suspensions.count("alice")
    with pytest.raises(OwnerSuspended, match=r"again in 60 s\. Do not repeat that request"):
        suspensions.check("alice")
