"""What an operator sees: metrics, readiness and the log, during failures and after recovery."""

import json
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.api.conftest import ApiClient
from tests.api.test_access_log import lines
from tests.api.test_runs import TIME
from tests.process import ROOT, ServerProcess, free_port
from tests.upstream import Fail, Reply, ScriptedUpstream

OBSERVE = ROOT / "docs" / "observe"


def metrics(server: ServerProcess, **headers: str) -> dict[tuple[str, ...], float]:
    """Return every sample, by its name and its label values in the order of the labels' names."""
    answer = httpx2.get(f"{server.url}/metrics", headers=headers, timeout=10)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name.removeprefix("threadhold_"), *sample.labels.values()): sample.value
        for family in parse(answer.text)
        for sample in family.samples
    }


def risen(server: ServerProcess, before: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    now = metrics(server)
    return {at: value - before.get(at, 0) for at, value in now.items() if value != before.get(at, 0)}


def until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.05)


def test_a_run_is_counted_with_its_tokens_and_first_token_time(
    server: ServerProcess, api: ApiClient, script: Callable[..., None]
) -> None:
    script(Reply("Hello there", usage={"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}))
    before = metrics(server)
    api.wait_ended(api.run())
    grown = risen(server, before)
    assert grown["runs_total", "completed"] == 1
    assert (grown["tokens_total", "prompt"], grown["tokens_total", "completion"]) == (11, 3)
    assert grown["replies_total", "ok"] == 1
    assert grown["first_token_seconds_count",] == grown["run_seconds_count",] == 1
    assert grown["requests_total", "POST", "/threads/{thread_id}/runs", "200"] == 1
    assert grown["store_batch_commits_sum",] >= grown["store_batch_seconds_count",] > 0


SLOW_S = 0.2
CALLING = Reply(tool_calls=[("getTime", {}, "c1")], start_s=SLOW_S)


@pytest.mark.parametrize(
    "reply",
    [
        Reply("short answer", start_s=SLOW_S),
        Reply(chunks=["<think>", "hm", "</think>", "42"], start_s=SLOW_S),
        Reply(chunks=["", "late"], delay_s=SLOW_S),
        CALLING,
    ],
    ids=["text", "reasoning", "after an empty chunk", "tool call"],
)
@pytest.mark.parametrize("fits", [True, False], ids=["complete prompt", "shortened prompt"])
def test_the_first_token_is_the_model_s_and_not_a_notice(
    server: ServerProcess, api: ApiClient, script: Callable[..., None], reply: Reply, fits: bool
) -> None:
    script(reply)
    before = metrics(server)
    thread = api.thread(*(() if fits else ("word " * 1_000 for _ in range(5))), "short")
    body = {"assistant_id": api.assistant(tools=[TIME]), "max_prompt_tokens": 500}
    run = api.wait_ended(api.post(f"/threads/{thread}/runs", body))
    shown = api.get(f"/threads/{thread}/runs/{run['id']}", params={"extensions": "true"})
    assert ("threadhold" in shown) is not fits
    grown = risen(server, before)
    assert grown["first_token_seconds_count",] == 1
    assert SLOW_S <= grown["first_token_seconds_sum",] <= grown["run_seconds_sum",]
    (line,) = lines(server, run_id=run["id"], logger="threadhold.runs", status=run["status"])
    assert SLOW_S <= line["first_token_ms"] / 1000 <= grown["first_token_seconds_sum",] + 0.001


def test_a_resumed_run_has_its_own_first_token(
    server: ServerProcess, api: ApiClient, script: Callable[..., None]
) -> None:
    script(Reply(tool_calls=[("getTime", {}, "c1")]), Reply("It is noon.", start_s=SLOW_S))
    run = api.wait_ended(api.run(tools=[TIME]))
    (call,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "noon"}]}
    before = metrics(server)
    api.wait_ended(api.post(f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs", outputs))
    grown = risen(server, before)
    assert grown["first_token_seconds_count",] == 1
    assert grown["first_token_seconds_sum",] >= SLOW_S


def test_a_search_by_the_server_is_not_a_first_token(tmp_path: Path) -> None:
    with (
        ScriptedUpstream() as upstream,
        ServerProcess(tmp_path, MODEL_URL=upstream.url, TOOL_CALLS="prompt") as server,
        httpx2.Client(base_url=f"{server.url}/v1", timeout=10) as client,
    ):
        upstream.default = lambda body: Reply("Cats do.", start_s=SLOW_S)
        api = ApiClient(client)
        store = api.post("/vector_stores", {"file_ids": [api.file("Cats purr.")]})["id"]
        api.wait_processed(f"/vector_stores/{store}")
        resources = {"file_search": {"vector_store_ids": [store]}}
        assistant = api.assistant(tools=[{"type": "file_search"}], tool_resources=resources)
        run = api.wait_ended(api.post(f"/threads/{api.thread('Who purrs?')}/runs", {"assistant_id": assistant}))
        steps = api.get(f"/threads/{run['thread_id']}/runs/{run['id']}/steps")["data"]
        assert [step["type"] for step in steps] == ["message_creation", "tool_calls"]
        assert metrics(server)["first_token_seconds_sum",] >= SLOW_S


def test_every_concurrent_run_has_its_own_first_token(server: ServerProcess, api: ApiClient, upstream: Any) -> None:
    upstream.default = lambda body: Reply("late", start_s=SLOW_S)
    before = metrics(server)
    for run in [api.run() for _ in range(12)]:
        api.wait_ended(run)
    grown = risen(server, before)
    assert grown["first_token_seconds_count",] == 12
    assert grown["first_token_seconds_sum",] >= 12 * SLOW_S


@pytest.mark.parametrize("reply", [Reply(chunks=[]), Fail(400)], ids=["empty reply", "refused"])
def test_a_run_without_output_has_no_first_token(
    server: ServerProcess, api: ApiClient, script: Callable[..., None], reply: Any
) -> None:
    script(reply)
    before = metrics(server)
    run = api.wait_ended(api.run())
    assert ("first_token_seconds_count",) not in risen(server, before)
    (line,) = lines(server, run_id=run["id"], logger="threadhold.runs", status=run["status"])
    assert line.get("first_token_ms") is None


def test_labels_do_not_grow_with_client_input(server: ServerProcess, api: ApiClient) -> None:
    api.client.get("/threads")
    api.client.request("BREW", "/threads")
    api.client.get("/nowhere")
    before = metrics(server)
    for number in range(20):
        api.client.get(f"/nowhere/{number}")
        api.client.get(f"/threads/thread_{number:024}")
        api.client.request(f"BREW{number}", "/threads")
    new = {at for at in metrics(server).keys() - before.keys() if at[0] == "requests_total"}
    assert new <= {("requests_total", "GET", "/threads/{thread_id}", "404")}


def test_a_stream_counts_as_open_until_it_ends(
    server: ServerProcess, api: ApiClient, script: Callable[..., None]
) -> None:
    script(Reply("slow " * 20, delay_s=0.05))
    body = {"assistant_id": api.assistant(), "stream": True}
    with api.client.stream("POST", f"/threads/{api.thread('x')}/runs", json=body) as answer:
        blocks = answer.iter_raw()  # kept, because an answer is closed without its iterator
        next(blocks)
        seen = metrics(server)
        assert (seen["streams_open",], seen["runs_executing",]) == (1, 1)
    until(lambda: metrics(server)["streams_open",] == 0)


def served_metrics(server: ServerProcess) -> set[str]:
    """Return the names of all metrics, without the suffixes of the parts of histograms."""
    answer = httpx2.get(f"{server.url}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    families = list(parse_openmetrics(answer.text))
    return {f"{family.name}{'_total' if family.type == 'counter' else ''}" for family in families}


def test_the_documentation_describes_every_metric(server: ServerProcess, api: ApiClient) -> None:
    api.wait_ended(api.run())
    ours = {name.removeprefix("threadhold_") for name in served_metrics(server) if name.startswith("threadhold_")}
    section = (OBSERVE / "../observe.md").read_text().partition("## Metrics")[2].partition("### Dashboard")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)} == ours


@pytest.mark.parametrize("name", ["alerts.yaml", "grafana-dashboard.json"])
def test_alerts_and_dashboard_use_only_metrics_that_exist(name: str, server: ServerProcess, api: ApiClient) -> None:
    api.wait_ended(api.run())
    used = set(re.findall(r"\b(?:threadhold|process)_[a-z_]+", (OBSERVE / name).read_text()))
    assert len(used) > 5
    assert {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in used} - served_metrics(server) == set()


def test_every_alert_is_documented() -> None:
    alerts = re.findall(r"- alert: (\w+)", (OBSERVE / "alerts.yaml").read_text())
    described = re.findall(r"^\| `(Threadhold\w+)` \|", (OBSERVE / "../observe.md").read_text(), re.MULTILINE)
    assert alerts == described


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({}, {"": 200, "any": 200}),
        ({"METRICS_KEY": "watching"}, {"": 401, "any": 401, "watching": 200}),
        ({"API_KEYS": "ann=k1"}, {"": 403, "k1": 403}),
        ({"API_KEYS": "ann=k1,k2", "METRICS_KEY": "watching"}, {"": 401, "k1": 401, "k2": 401, "watching": 200}),
    ],
    ids=["open", "open with a key", "keys", "keys and a key"],
)
def test_access_to_metrics_depends_on_keys(tmp_path: Path, settings: dict[str, str], keys: dict[str, int]) -> None:
    with ServerProcess(tmp_path, MODEL_URL="http://127.0.0.1:9/v1", **settings) as server:
        for key, status in keys.items():
            headers = {"authorization": f"Bearer {key}"} if key else {}
            assert httpx2.get(f"{server.url}/metrics", headers=headers, timeout=10).status_code == status, key
        if "API_KEYS" in settings:
            opened = httpx2.get(f"{server.url}/v1/threads", headers={"authorization": "Bearer watching"})
            assert opened.status_code == 401  # the key gives access to nothing else


def ready(server: ServerProcess) -> dict[str, Any]:
    answer = httpx2.get(f"{server.url}/ready", timeout=15)
    report: dict[str, Any] = answer.json()
    assert (answer.status_code == 200) is (report["status"] == "ready")
    return report


def test_an_upstream_failure_and_recovery_are_seen_without_loss(tmp_path: Path) -> None:
    port = free_port()
    settings = {"MODEL_URL": f"http://127.0.0.1:{port}/v1"}
    with (
        ServerProcess(tmp_path, **settings) as server,
        httpx2.Client(base_url=f"{server.url}/v1", timeout=30) as client,
    ):
        api = ApiClient(client)
        with ScriptedUpstream(port=port):
            until(lambda: ready(server)["status"] == "ready")
            thread, assistant = api.thread("Hello"), api.assistant()
            run = api.post(f"/threads/{thread}/runs", {"assistant_id": assistant})
            assert api.wait_ended(run)["status"] == "completed"
        until(lambda: "cannot be reached" in ready(server)["checks"]["upstream"])
        broken = api.wait_ended(api.post(f"/threads/{thread}/runs", {"assistant_id": assistant}))
        assert broken["status"] == "failed"
        seen = metrics(server)
        assert (seen["ready", "upstream"], seen["ready", "store"]) == (0, 1)
        assert seen["runs_total", "failed"] == seen["replies_total", "unreachable"] == 1
        assert seen["upstream_requests_total", "unreachable", "default"] >= 1
        with ScriptedUpstream(port=port) as up:
            up.script(Fail(503))
            until(lambda: ready(server)["status"] == "ready")
            again = api.wait_ended(api.post(f"/threads/{thread}/runs", {"assistant_id": assistant}))
            assert again["status"] == "completed"
            seen = metrics(server)
            assert (seen["ready", "upstream"], seen["upstream_requests_total", "failed", "default"]) == (1, 1)
        roles = [message["role"] for message in api.get(f"/threads/{thread}/messages?order=asc")["data"]]
        assert roles == ["user", "assistant", "assistant"]
        assert {at["id"] for at in api.get(f"/threads/{thread}/runs")["data"]} == {
            run["id"],
            broken["id"],
            again["id"],
        }
    log = [json.loads(line) for line in server.log.read_text().splitlines()]
    messages = [line["message"].partition(":")[0] for line in log if line["logger"] == "threadhold.ready"]
    assert messages[-2:] == ["not ready", "ready again"]
    assert [line["error"] for line in log if line.get("status") == "failed"] == ["unreachable"]


@contextmanager
def full_disk(server: ServerProcess) -> Iterator[None]:
    """Keep all files of the server from growing."""
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_and_its_recovery_are_seen(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, MODEL_URL=upstream.url) as server:
        until(lambda: ready(server)["status"] == "ready")
        with full_disk(server):
            until(lambda: ready(server)["checks"]["store"] != "ok")
            assert ready(server)["checks"]["upstream"] == "ok"
        until(lambda: ready(server)["status"] == "ready")
        assert metrics(server)["store_batches_failed_total",] >= 1


def test_frequent_probes_hardly_call_the_upstream(tmp_path: Path) -> None:
    with ScriptedUpstream() as up, ServerProcess(tmp_path, MODEL_URL=up.url) as server:
        ready(server)
        up.models_reply = Fail(500)
        with httpx2.Client() as client:
            started, asked = time.monotonic(), up.models_asked
            while time.monotonic() - started < 1.5:
                client.get(f"{server.url}/ready")
        assert up.models_asked - asked <= 2
