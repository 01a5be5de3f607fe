"""The clock is set during runs: they end or wait as documented, orders are kept, nothing hangs.

libfaketime sets the clock of the server (Debian: `libfaketime`); monotonic time is unaffected, as when a real clock is
set.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.test_disk import streaming_run, take_next_turn, waiting_run
from tests.graphs.harness import Clock, harness
from tests.process import ServerProcess
from tests.test_crash import create_thread, messages, wait_for_run
from tests.upstream import Hang, ScriptedUpstream

FAKETIME = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), *Path("/usr/lib").glob("faketime/libfaketimeMT*")]
DAY_S = 86_400


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


async def test_a_run_expires_in_time_after_the_clock_was_set_back(upstream: ScriptedUpstream) -> None:
    clock = Clock()
    upstream.script(Hang())
    async with harness(upstream, clock=clock, expiry_s=1) as deps:
        started = await deps.start_run()
        await upstream.eventually(lambda up: up.open_streams == 1)
        clock.now -= 1_000_000
        await deps.events(started.run_id)
        assert (await deps.run(started))["status"] == "expired"
        await upstream.eventually(lambda up: up.open_streams == 0)


class SettableClock:
    """A clock that a server reads, and that a test sets."""

    def __init__(self, folder: Path) -> None:
        if not FAKETIME:
            pytest.skip("libfaketime, which sets the clock of a server, is missing")
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
        """Set it ahead or back, as "+365d" or "-1d", relative to the true time."""
        self._file.write_text(by)


@pytest.mark.soak
@pytest.mark.timeout(540)
@pytest.mark.parametrize("days", [365, -365], ids=["ahead", "back"])
def test_a_clock_that_jumps_keeps_objects_and_their_order(
    tmp_path: Path, upstream: ScriptedUpstream, days: int
) -> None:
    clock = SettableClock(tmp_path)
    # Not forked: the library that sets the clock is loaded at a program's start.
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
