"""The clock is set while runs are under way: they end or wait lawfully, orders stay, nothing hangs.

The clock of a whole server is set by libfaketime (Debian: `libfaketime`); monotonic time stays true, as it does where a
clock is set for real.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.test_disk import streaming_run, take_next_turn, waiting_run
from tests.graphs.world import Clock, world
from tests.process import ServerProcess
from tests.test_crash import create_thread, messages, wait_for_run
from tests.upstream import Hang, ScriptedUpstream

FAKETIME = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), *Path("/usr/lib").glob("faketime/libfaketimeMT*")]
DAY_S = 86_400


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


async def test_a_run_expires_in_time_although_the_clock_was_set_back(upstream: ScriptedUpstream) -> None:
    clock = Clock()
    upstream.script(Hang())
    async with world(upstream, clock=clock, expiry_s=1) as deps:
        started = await deps.begin()
        await upstream.eventually(lambda up: up.open_streams == 1)
        clock.now -= 1_000_000
        await deps.events(started.run_id)
        assert (await deps.run(started))["status"] == "expired"
        await upstream.eventually(lambda up: up.open_streams == 0)


class Told:
    """A clock that a server looks at, and that a test sets."""

    def __init__(self, folder: Path) -> None:
        if not FAKETIME:
            pytest.skip("no libfaketime, so the clock of a whole server is not set")
        self._file = folder / "clock"
        self.set("+0d")
        self.settings = {
            "LD_PRELOAD": str(FAKETIME[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, by: str) -> None:
        """Set it ahead or back, as "+365d" or "-1d"; from the true time, not from what it was."""
        self._file.write_text(by)


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("days", [365, -365], ids=["ahead", "back"])
def test_a_clock_that_jumps_loses_nothing_and_no_order(tmp_path: Path, upstream: ScriptedUpstream, days: int) -> None:
    clock = Told(tmp_path)
    # Not forked: the library that sets the clock comes with a program's start.
    with ServerProcess(tmp_path, bare=True, MODEL_URL=upstream.url, **clock.settings) as server:
        waiting, run, outputs = waiting_run(server, upstream)
        streaming, cut = streaming_run(server, upstream)
        thread, _ = create_thread(server)
        texts = ["Hello"]
        for jump in (0, days, 0):
            clock.set(f"{jump:+}d")
            texts.append(f"{len(texts)}")
            message = {"role": "user", "content": texts[-1]}
            made = server.request("POST", f"/v1/threads/{thread}/messages", message)
            assert abs(made["created_at"] - time.time() - jump * DAY_S) < 60
            time.sleep(1.2)  # a sweep sees the new time
        assert [one["content"][0]["text"]["value"] for one in messages(server, thread)] == texts
        newest = server.request("GET", f"/v1/threads/{thread}/messages?limit=2")
        older = server.request("GET", f"/v1/threads/{thread}/messages?after={newest['last_id']}")
        assert [one["content"][0]["text"]["value"] for one in older["data"]] == texts[1::-1]
        upstream.release()
        if days > 0:
            wait_for_run(server, waiting, run, "expired")
            wait_for_run(server, streaming, cut, "expired")
        else:
            wait_for_run(server, streaming, cut, "completed")
            server.request("POST", f"/v1/threads/{waiting}/runs/{run}/submit_tool_outputs", outputs)
            wait_for_run(server, waiting, run, "completed")
        for one in (waiting, streaming, thread):
            take_next_turn(server, one)
