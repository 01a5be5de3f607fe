"""Random clients compare a real server with a model of the API; `make soak` tries more, and restarts the server in
between."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from tests.faults.machine import Clients, check_thread, scripted
from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream

QUICK = settings(
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # shrinking takes minutes, and is left to the soak test
    suppress_health_check=list(HealthCheck),
)
LONG = settings(
    QUICK,
    max_examples=50,
    stateful_step_count=60,
    derandomize=False,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)


class Restarting(Clients):
    """Clients of a server that is killed or stopped, and restarted."""

    restarts = 0

    @rule(killed=st.booleans(), again=st.integers(0, 1))
    def restart(self, killed: bool, again: int) -> None:
        if again:  # not at every step that hypothesis chooses: a start takes longer than all the others
            return
        type(self).restarts += 1
        if killed:
            self.server.kill()
        else:
            self.server.terminate()
            assert self.server.wait(20) == 0
        self.server.start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ScriptedUpstream() as upstream:
        upstream.default = scripted
        with (
            ServerProcess(tmp_path, MODEL_URL=upstream.url, DRAIN_S="0.2", RUN_EXPIRY_S="7200") as process,
            httpx2.Client(base_url=f"{process.url}/v1", timeout=30) as client,
        ):
            Clients.server, Clients.client, Clients.kept = process, client, []
            yield process


def run_hypothesis(server: ServerProcess, clients: type[Clients], how: settings) -> int:
    """Let hypothesis run; then kill the server, and check that everything is still there. Returns the number of
    threads."""
    run_state_machine_as_test(clients, settings=how)  # type: ignore[no-untyped-call]
    server.kill()
    server.start()
    looking = Clients()
    for thread in Clients.kept:
        check_thread(looking, thread)
    return len(Clients.kept)


@pytest.mark.timeout(540)
def test_the_server_agrees_with_the_model_of_the_api(server: ServerProcess) -> None:
    assert run_hypothesis(server, Clients, QUICK) > 12


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_server_agrees_with_the_model_after_restarts(
    server: ServerProcess, record_property: Callable[[str, object], None]
) -> None:
    record_property("threads", run_hypothesis(server, Restarting, LONG))
    record_property("restarts", Restarting.restarts)
