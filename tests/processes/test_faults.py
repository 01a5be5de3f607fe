"""Servers on one store that are killed, stopped and suspended at random times under load; then the records are
checked."""

import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.programs import HABITS, Program, model, stop_all
from tests.faults.records import check_records
from tests.processes.conftest import LEASE_S, Two, suspended, two_servers


class Either:
    """A server for programs that know both: each connection goes to one of them."""

    def __init__(self, two: Two, chance: random.Random) -> None:
        self._two = two
        self._chance = chance

    @property
    def url(self) -> str:
        """The address of one of them."""
        return self._chance.choice(self._two[:2]).url


def inject_faults(folder: Path, *, ends: list[str], seed: int, habits: tuple[str, ...] = HABITS) -> dict[str, int]:
    """Apply "kill", "stop" or "suspend" to two busy servers in turn; returns the counts."""
    chance = random.Random(seed)
    with two_servers(folder) as two:
        two.upstream.default = model
        either: Any = Either(two, chance)
        programs = [Program(either, habit, seed + index) for index, habit in enumerate(habits)]
        for program in programs:
            program.start()
        for how in ends:
            time.sleep(chance.uniform(0.5, 2.0))
            victim = chance.choice(two[:2])
            if how == "suspend":
                with suspended(victim):
                    time.sleep(chance.uniform(0.3, 2 * LEASE_S))
                continue
            if how == "kill":
                victim.kill()
            else:
                victim.terminate()
                assert victim.wait(30) == 0
            time.sleep(chance.uniform(0, LEASE_S))
            victim.start()
        promises = stop_all(programs, 60)
        time.sleep(LEASE_S)
        for server in two[:2]:
            counted = check_records(server, promises)
            promises.messages = {}  # each thread has one more message now, and its last run can be read twice
        return counted


@pytest.mark.soak
@pytest.mark.timeout(540)
def test_records_are_consistent_after_a_kill_and_a_suspension(tmp_path: Path) -> None:
    counted = inject_faults(tmp_path, ends=["suspend", "kill"], seed=5, habits=HABITS[1:5])
    assert counted["runs"] > 4


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["kill", "stop", "suspend"])
def test_records_are_consistent_after_many_faults(tmp_path: Path, how: str) -> None:
    counted = inject_faults(tmp_path, ends=[how] * 12, seed=11)
    assert counted["runs"] > 40
