"""The measurements of a benchmark, with a real server, the scripted model and the pass-through, in small amounts."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.clients import CompletionsClient, ModelScript, ServerClient, connect
from bench.measurements import cancel, lateness, turns
from bench.processes import DIRECT, PASSTHROUGH, Process, run_model, run_passthrough
from bench.rounds import QUICK, alternate, measure_clients
from bench.table import ROWS
from tests.process import ServerProcess

SMALL = replace(QUICK, group=2, turns=20, clients=4, tokens=50, streams=(4, 8), open_s=0.3, messages=12)


@pytest.fixture(scope="module")
def model() -> Iterator[Process]:
    with run_model() as process:
        yield process


@pytest.fixture(scope="module")
def server(model: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with ServerProcess(tmp_path_factory.mktemp("bench"), MODEL_URL=model.url) as process:
        yield Process("server", process.url, process.pid)


@pytest.mark.soak
async def test_every_client_has_a_number_for_every_round(model: Process, server: Process) -> None:
    with run_passthrough(model) as passthrough:
        samples = await measure_clients([server, replace(server, name="base")], model, passthrough, SMALL)
    assert {*samples, "start", "memory"} == set(ROWS)
    for key, found in samples.items():
        baseline = ROWS[key].baseline
        assert set(found) == {"server", "base"} | ({baseline} if baseline else set()), key
        assert len({len(numbers) for numbers in found.values()}) == 1, key
        assert key == "long_thread" or min(min(numbers) for numbers in found.values()) > 0, key


def test_each_round_measures_everything_once_in_another_order() -> None:
    measured = list(alternate("turn_1", ["a", "b", "c"], 20))
    rounds = [tuple(measured[start : start + 3]) for start in range(0, len(measured), 3)]
    assert len(rounds) == 20
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert {one[0] for one in rounds} == {"a", "b", "c"}


async def test_a_server_uses_more_processor_time_than_a_pass_through(model: Process, server: Process) -> None:
    with run_passthrough(model) as passthrough:
        async with connect() as session:
            script, through = ModelScript(session, model.url), CompletionsClient(session, passthrough)
            runs = ServerClient(session, server)
            await runs.create_assistant()
            used = [await turns(client, script, clients=2, turns_each=10) for client in (through, runs)]
    assert (through.name, model.name) == (PASSTHROUGH, DIRECT)
    assert 0 < used[0] < used[1]


async def test_latency_counts_from_the_moment_the_model_sends(model: Process) -> None:
    async with connect() as session:
        script, direct = ModelScript(session, model.url), CompletionsClient(session, model)
        late_ms = await lateness(direct, script, streams=3, opening_s=0.1, open_s=0.4)
        assert 0 < late_ms < 50  # half the time between two tokens


async def test_a_cancelled_run_closes_its_connection_to_the_model(model: Process, server: Process) -> None:
    async with connect() as session:
        script, runs = ModelScript(session, model.url), ServerClient(session, server)
        await runs.create_assistant()
        before = len((await script.counters())["closed_at"])
        assert 0 < await cancel(runs, script) < 5000
        counters = await script.counters()
        assert (len(counters["closed_at"]), counters["open_streams"]) == (before + 1, 0)
