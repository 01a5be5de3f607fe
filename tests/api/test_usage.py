"""Usage of a running server: counted at the end of runs, shown to admin keys and by the command."""

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from api.completion_usage import ReportedTokens, read_tokens
from tests.api.test_keys import create, folder_of, new_valid_key, run, status, within
from tests.ops.command import command
from tests.process import ServerProcess
from tests.upstream import Hang, Reply, ScriptedUpstream


@pytest.fixture(scope="module")
def metered(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("metered")
    create(folder)
    with ServerProcess(folder, MODEL_URL=upstream.url) as process:
        yield process


def usage_of(server: ServerProcess, owner: str) -> list[dict[str, Any]]:
    """Return what the command prints of an owner."""
    done = command(folder_of(server), "usage", "--owner", owner, "--by", "owner,model,kind,key", "--json")
    assert done.returncode == 0, done.stderr
    return list(map(json.loads, done.stdout.splitlines()))


def test_a_run_counts_once_when_it_ends(metered: ServerProcess) -> None:
    key = new_valid_key(metered, "--owner", "ann")
    usages = [run(metered, key)["usage"] for _ in range(2)]
    (counted,) = usage_of(metered, "ann")
    assert counted == {
        "owner": "ann",
        "model": "test-model",
        "kind": "run",
        "key": key[:15],
        "requests": 2,
        "input_tokens": sum(usage["prompt_tokens"] for usage in usages),
        "cached_tokens": 0,
        "output_tokens": sum(usage["completion_tokens"] for usage in usages),
    }
    assert counted["output_tokens"] > 0


def test_cached_tokens_of_a_run_count(metered: ServerProcess, upstream: ScriptedUpstream) -> None:
    tokens: Any = {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32}
    upstream.script(Reply("Hello", usage={**tokens, "prompt_tokens_details": {"cached_tokens": 7}}))
    run(metered, new_valid_key(metered, "--owner", "fay"))
    (counted,) = usage_of(metered, "fay")
    assert (counted["input_tokens"], counted["cached_tokens"], counted["output_tokens"]) == (30, 7, 2)


def test_completions_count_if_the_upstream_reports_tokens(metered: ServerProcess) -> None:
    key = new_valid_key(metered, "--owner", "cid")
    client = openai.OpenAI(base_url=f"{metered.url}/v1", api_key=key)
    asked: dict[str, Any] = {"model": "test-model", "messages": [{"role": "user", "content": "Hello"}]}
    whole = client.chat.completions.create(**asked).usage
    options = {"include_usage": True}
    *_, last = client.chat.completions.create(**asked, stream=True, stream_options=options)
    list(client.chat.completions.create(**asked, stream=True))
    assert whole is not None
    assert last.usage is not None
    within(5, lambda: usage_of(metered, "cid") and usage_of(metered, "cid")[0]["requests"] == 2)
    (counted,) = usage_of(metered, "cid")
    assert (counted["kind"], counted["key"]) == ("chat", key[:15])
    assert counted["input_tokens"] == whole.prompt_tokens + last.usage.prompt_tokens
    assert counted["output_tokens"] == whole.completion_tokens + last.usage.completion_tokens


def test_admin_keys_read_the_usage_of_all_owners(metered: ServerProcess) -> None:
    key = new_valid_key(metered, "--owner", "dan")
    run(metered, key)
    admin = new_valid_key(metered, "--owner", "boss", "--scope", "admin")
    client = openai.OpenAI(base_url=f"{metered.url}/v1", api_key="", admin_api_key=admin)
    found = client.admin.organization.usage.completions(
        start_time=int(time.time()), group_by=["project_id", "model"], project_ids=["dan"]
    )
    (result,) = found.data[0].results
    assert result.object == "organization.usage.completions.result"
    assert (result.project_id, result.model, result.num_model_requests) == ("dan", "test-model", 1)  # type: ignore[union-attr]
    assert status(metered, admin, path="/assistants") == 403
    for other in (key, new_valid_key(metered, "--scope", "read")):
        assert status(metered, other, path="/organization/usage/completions?start_time=1") == 403


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("", "start_time"),
        ("start_time=1&bucket_width=1h", "bucket_width"),
        ("start_time=1&limit=32", "limit"),
        ("start_time=1&group_by[]=owner", "group_by[]"),
        ("start_time=1&group_by=owner", "group_by"),
        ("start_time=5&end_time=5", "end_time"),
        ("start_time=1&page=2", "page"),
        ("start_time=-1", "start_time"),
    ],
)
def test_a_query_that_is_not_kept_is_a_400(metered: ServerProcess, query: str, param: str) -> None:
    admin = new_valid_key(metered, "--scope", "admin")
    headers = {"authorization": f"Bearer {admin}"}
    answer = httpx2.get(f"{metered.url}/v1/organization/usage/completions?{query}", headers=headers)
    assert answer.status_code == 400, answer.text
    assert str(answer.json()["error"]["param"]).startswith(param)


def test_an_open_server_shows_its_usage(server: ServerProcess) -> None:
    answer = httpx2.get(f"{server.url}/v1/organization/usage/completions?start_time=1700000000&group_by=model")
    assert answer.json()["object"] == "page"
    assert len(answer.json()["data"]) == 7


def test_csv_has_the_same_counts(metered: ServerProcess) -> None:
    key = new_valid_key(metered, "--owner", "eve")
    run(metered, key)
    done = command(folder_of(metered), "usage", "--owner", "eve", "--csv", "--by", "day")
    (row,) = csv.DictReader(done.stdout.splitlines())
    assert row["day"] == time.strftime("%Y-%m-%d", time.gmtime())
    assert int(row["input_tokens"]) == usage_of(metered, "eve")[0]["input_tokens"]
    table = command(folder_of(metered), "usage", "--owner", "eve").stdout.splitlines()
    assert table[0].split() == ["DAY", "OWNER", "MODEL", "REQUESTS", "INPUT", "CACHED", "OUTPUT"]
    assert table[-1].split()[0] == "total"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--from", "yesterday"], 2, "'yesterday' is not a day; write, for example, 2026-12-01"),
        (["--by", "week"], 2, "'week' is not one of day, owner, model, kind, key"),
        (["--json", "--csv"], 2, "not allowed with argument"),
        (["--from", "2020-01-01", "--to", "2020-01-02"], 0, "there is no usage in this period"),
    ],
)
def test_arguments_of_usage_are_explained(words: list[str], code: int, message: str, tmp_path: Path) -> None:
    done = command(tmp_path, "usage", *words)
    assert done.returncode == code
    assert message in done.stderr


def test_sigkill_neither_loses_nor_repeats_usage(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, MODEL_URL=upstream.url) as server:
        upstream.forget()
        ended = run(server, "any")
        upstream.script(Hang())
        assistant = server.request("POST", "/v1/assistants", {"model": "test-model"})["id"]
        body = {"assistant_id": assistant, "thread": {"messages": [{"role": "user", "content": "Hello"}]}}
        made = server.request("POST", "/v1/threads/runs", body)
        upstream.wait_for(lambda up: up.open_streams > 0)
        server.kill()
        before = usage_of(server, "default")
        assert [each["output_tokens"] for each in before] == [ended["usage"]["completion_tokens"]]
        upstream.forget()
        upstream.default = lambda _: Reply("Hello again")
        server.start()
        path = f"/v1/threads/{made['thread_id']}/runs/{made['id']}"
        within(30, lambda: server.request("GET", path)["status"] == "completed")
        usage = server.request("GET", path)["usage"]
        server.kill()
        (after,) = usage_of(server, "default")
        assert after["requests"] == 2
        assert after["output_tokens"] == ended["usage"]["completion_tokens"] + usage["completion_tokens"]
        assert after["input_tokens"] == ended["usage"]["prompt_tokens"] + usage["prompt_tokens"]


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"usage": {"prompt_tokens": 3, "completion_tokens": 4}}', ReportedTokens(3, 4)),
        (b'{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2}}}', ReportedTokens(3, 0, 2)),
        (b'{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":9}}}', ReportedTokens(3, 0, 3)),
        (b'{"usage":null}', None),
        (b'{"usage":{"prompt_tokens":-3,"completion_tokens":"4"}}', None),
        (b'{"usage":{"prompt_tokens":true}}', None),
        (b"[1]", None),
        (b"no JSON", None),
        (b'{"a":"' + b"x" * 300_000 + b'","usage":{"prompt_tokens":3,"completion_tokens":4}}', ReportedTokens(3, 4)),
        (b'{"usage":{"prompt_tokens":3},"a":"' + b"x" * 300_000 + b'"}', None),
        (b'{"a":"' + b"x" * 300_000 + rb' \"usage\":{\"prompt_tokens\":3}"}', None),
    ],
    ids=[
        "whole",
        "cached",
        "too many cached",
        "null",
        "negative",
        "boolean",
        "list",
        "text",
        "large",
        "early",
        "quoted",
    ],
)
def test_only_reported_tokens_are_read(body: bytes, tokens: ReportedTokens | None) -> None:
    assert read_tokens(body) == tokens
