"""SIGKILL and SIGTERM at random times under load, also during starts; then the records are checked."""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.faults.programs import HABITS, Program, model, stop_all
from tests.faults.records import check_records
from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream

Record = Callable[[str, object], None]


def end_repeatedly(
    folder: Path, *, ends: list[str], in_start: float, seed: int, habits: Sequence[str] = HABITS
) -> dict[str, int]:
    """End a busy server repeatedly by "kill" or "stop"; a share of `in_start` of the kills comes before it is open.

    Returns the counts.
    """
    chance = random.Random(seed)
    with ScriptedUpstream() as upstream:
        upstream.default = model
        with ServerProcess(folder, MODEL_URL=upstream.url, RUN_EXPIRY_S="7200", DRAIN_S="0.3") as server:
            opened = True
            programs = [Program(server, habit, seed + index) for index, habit in enumerate(habits)]
            for program in programs:
                program.start()
            for how in ends:
                time.sleep(chance.uniform(0.05, 1.0))
                if how == "kill":
                    server.kill()
                else:
                    server.terminate()
                    assert server.wait(30) == 0
                opened = chance.random() >= in_start
                if opened:
                    server.start()
                else:
                    server.start_healthy()
            if not opened:
                server.kill()
                server.start()
            return check_records(server, stop_all(programs, 30))


def test_nothing_acknowledged_is_lost_or_duplicated(tmp_path: Path) -> None:
    counted = end_repeatedly(tmp_path, ends=["kill", "stop"], in_start=0.0, seed=3, habits=HABITS[1:5])
    assert counted["runs"] > 4


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_nothing_is_lost_in_200_kills_at_random_times(tmp_path: Path, record_property: Record) -> None:
    seed = time.time_ns() % 1_000_000
    record_property("seed", seed)
    counted = end_repeatedly(tmp_path, ends=["kill"] * 200, in_start=0.25, seed=seed)
    for name, count in {"kills": 200, **counted}.items():
        record_property(name, count)
    assert counted["runs"] > 200


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_nothing_is_lost_when_a_server_is_stopped_at_random_times(tmp_path: Path, record_property: Record) -> None:
    seed = time.time_ns() % 1_000_000
    record_property("seed", seed)
    counted = end_repeatedly(tmp_path, ends=["stop", "stop", "kill"] * 15, in_start=0.25, seed=seed)
    for name, count in {"stops": 30, **counted}.items():
        record_property(name, count)
