"""Stored keys in a running server, over a real socket."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.ops.command import command
from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream

pytestmark = pytest.mark.filterwarnings("ignore:(The Assistants API is )?deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def managed(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has one stored key and a key in API_KEYS."""
    folder = tmp_path_factory.mktemp("managed")
    create(folder)
    with ServerProcess(folder, MODEL_URL=upstream.url, API_KEYS="eve=key-eve") as process:
        yield process


def create(folder: Path, *words: str) -> str:
    done = command(folder, "keys", "create", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def folder_of(server: ServerProcess) -> Path:
    return server.log.parent


def status(server: ServerProcess, key: str, method: str = "GET", path: str = "/assistants") -> int:
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.request(method, f"{server.url}/v1{path}", headers=headers, timeout=10).status_code


def within(seconds: float, condition: Callable[[], Any]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.02)


def new_valid_key(server: ServerProcess, *words: str) -> str:
    """Create a key, and wait until the server has it."""
    key = create(folder_of(server), *words)
    within(2, lambda: status(server, key, "OPTIONS", "/nothing") != 401)
    return key


def run(server: ServerProcess, key: str) -> dict[str, Any]:
    """Execute a run, and return it."""
    with httpx2.Client(base_url=f"{server.url}/v1", headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
        assistant = client.post("/assistants", json={"model": "test-model"}).json()["id"]
        body = {"assistant_id": assistant, "thread": {"messages": [{"role": "user", "content": "Hello"}]}}
        made = client.post("/threads/runs", json=body).json()
        path = f"/threads/{made['thread_id']}/runs/{made['id']}"
        within(30, lambda: client.get(path).json()["status"] == "completed")
        ended: dict[str, Any] = client.get(path).json()
        return ended


def test_a_revoked_key_is_refused_within_a_second(managed: ServerProcess) -> None:
    key = new_valid_key(managed)
    assert status(managed, key) == 200
    assert command(folder_of(managed), "keys", "revoke", key[:15]).returncode == 0
    within(1, lambda: status(managed, key) == 401)
    assert status(managed, "key-eve") == 200


def test_a_rotated_key_is_valid_during_its_grace(managed: ServerProcess) -> None:
    old = new_valid_key(managed, "--owner", "ann")
    new = command(folder_of(managed), "keys", "rotate", old[:15], "--grace", "1h").stdout.strip()
    within(2, lambda: status(managed, new) == 200)
    assert status(managed, old) == 200


def test_an_expired_key_is_refused(managed: ServerProcess) -> None:
    key = new_valid_key(managed, "--expires", "0.0005h")
    within(5, lambda: status(managed, key) == 401)


@pytest.mark.parametrize("change", ["id", "secret", "cut", "longer", "upper", "id only"])
def test_a_key_that_differs_is_refused(managed: ServerProcess, change: str) -> None:
    key = new_valid_key(managed)
    other = {
        "id": f"th-{'0' * 12}{key[15:]}",
        "secret": key[:-1] + ("0" if key[-1] != "0" else "1"),
        "cut": key[:-1],
        "longer": f"{key}0",
        "upper": key.upper(),
        "id only": key[:15],
    }[change]
    assert status(managed, other) == 401


def test_an_owner_has_its_own_objects(managed: ServerProcess) -> None:
    ann, bob = new_valid_key(managed, "--owner", "ann"), new_valid_key(managed, "--owner", "bob")
    made = run(managed, ann)
    assert status(managed, ann, path=f"/threads/{made['thread_id']}") == 200
    assert status(managed, bob, path=f"/threads/{made['thread_id']}") == 404


def test_a_missing_scope_is_a_403_that_names_it(managed: ServerProcess) -> None:
    key = new_valid_key(managed, "--scope", "read")
    client = openai.OpenAI(base_url=f"{managed.url}/v1", api_key=key)
    assert list(client.beta.assistants.list()) == []
    with pytest.raises(openai.PermissionDeniedError, match="Missing scopes: inference") as refused:
        client.beta.threads.create()
    assert refused.value.code == "insufficient_permissions"
    with pytest.raises(openai.PermissionDeniedError, match="Missing scopes: files"):
        client.vector_stores.create()


def test_the_sdk_gets_a_401_for_a_wrong_key(managed: ServerProcess) -> None:
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
        openai.OpenAI(base_url=f"{managed.url}/v1", api_key="th-wrong").models.list()


def test_the_sdk_waits_as_the_429_says_and_succeeds(managed: ServerProcess) -> None:
    key = new_valid_key(managed, "--rpm", "60")
    client = openai.OpenAI(base_url=f"{managed.url}/v1", api_key=key)
    for _ in range(62):
        client.beta.threads.create()
    impatient = client.with_options(max_retries=0)
    with pytest.raises(openai.RateLimitError) as refused:
        for _ in range(5):
            impatient.beta.threads.create()
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.type == "requests"
    assert refused.value.response.headers["retry-after"] == "1"
    answer = client.beta.assistants.with_raw_response.list()
    assert answer.headers["x-ratelimit-limit-requests"] == "60"
    assert answer.headers["x-ratelimit-remaining-requests"] in ("0", "1")
    assert answer.headers["x-ratelimit-reset-requests"].endswith("s")


def test_the_tokens_of_a_run_count_for_its_key(managed: ServerProcess) -> None:
    key = new_valid_key(managed, "--tpm", "1000000")
    used = run(managed, key)["usage"]["total_tokens"]
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx2.get(f"{managed.url}/v1/assistants", headers=headers)
    assert used > 0
    refilled_at_most = 1_000_000
    left = int(answer.headers["x-ratelimit-remaining-tokens"])
    assert answer.headers["x-ratelimit-limit-tokens"] == "1000000"
    assert left <= refilled_at_most
    small = new_valid_key(managed, "--tpm", "1")
    run(managed, small)
    assert status(managed, small, "POST", "/threads") == 429
    assert status(managed, small) == 200


def test_the_last_use_is_stored(managed: ServerProcess) -> None:
    key = new_valid_key(managed)
    assert status(managed, key) == 200

    def used() -> bool:
        lines = command(folder_of(managed), "keys", "list", "--json").stdout.splitlines()
        (stored,) = [each for each in map(json.loads, lines) if each["id"] == key[:15]]
        return stored["last_used_at"] is not None and abs(stored["last_used_at"] - time.time()) < 30

    within(5, used)


def test_refusals_are_logged_without_keys(managed: ServerProcess) -> None:
    key = new_valid_key(managed)
    wrong = key[:-4] + "0000"
    for _ in range(50):
        status(managed, wrong)
    log = managed.log.read_text()
    assert 1 <= log.count("its key is not valid") <= 3
    assert wrong not in log
    assert key not in log


def test_an_open_server_requires_keys_from_the_first_one_on(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, MODEL_URL=upstream.url) as server:
        assert status(server, "any") == 200
        key = create(tmp_path)
        within(1, lambda: status(server, "any") == 401)
        assert status(server, key) == 200
        assert httpx2.get(f"{server.url}/health").status_code == 200
        assert httpx2.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {key}"}).status_code == 403
        command(tmp_path, "keys", "revoke", key[:15])
        within(1, lambda: status(server, key) == 401)
        assert status(server, "any") == 401
        server.kill()
        server.start()
        assert status(server, "any") == 401
