"""Keys and usage with two servers on one store: both follow each change, and each run is counted once."""

import json

from tests.api.test_keys import create, folder_of, run, status, within
from tests.ops.command import command
from tests.processes.conftest import Two


def test_both_servers_follow_each_change(own_two: Two) -> None:
    a, b, _ = own_two
    key = create(folder_of(a), "--owner", "ann")
    for server in (a, b):
        within(2, lambda server=server: status(server, "any") == 401)  # type: ignore[misc]
        assert status(server, key) == 200
    made = run(a, key)
    assert status(b, key, path=f"/threads/{made['thread_id']}") == 200
    command(folder_of(a), "keys", "revoke", key[:15])
    for server in (a, b):
        within(1, lambda server=server: status(server, key) == 401)  # type: ignore[misc]


def test_each_run_is_counted_once(own_two: Two) -> None:
    a, b, _ = own_two
    total = sum(run(server, "any")["usage"]["total_tokens"] for server in (a, b, a))
    done = command(folder_of(a), "usage", "--by", "owner", "--json")
    counted = json.loads(done.stdout)
    assert counted["input_tokens"] + counted["output_tokens"] == total
    answers = [server.request("GET", "/v1/organization/usage/completions?start_time=1700000000") for server in (a, b)]
    assert answers[0] == answers[1]
