"""Every model option reaches the model from every request that can set it."""

from typing import Any

import pytest

from tests.api.conftest import ApiClient
from tests.objects import OPTION_VALUES, OTHER_VALUES
from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream
from wire.model_options import OPTIONS
from wire.runs import ThreadRunCreate

MESSAGES = [{"role": "user", "content": "Hi"}]
EVERY = pytest.mark.parametrize(("name", "value"), OPTION_VALUES.items(), ids=OPTION_VALUES)


def sent(api: ApiClient, upstream: ScriptedUpstream, run: dict[str, Any]) -> dict[str, Any]:
    """The options in the request for the run's answer."""
    assert api.wait_ended(run)["status"] == "completed"
    return {name: value for name, value in upstream.requests[-1].body.items() if name in OPTIONS}


@EVERY
def test_an_assistant_s_option_applies_to_its_runs(
    api: ApiClient, upstream: ScriptedUpstream, name: str, value: Any
) -> None:
    assistant = api.assistant(**{name: value})
    assert api.get(f"/assistants/{assistant}")[name] == value
    run = api.post(f"/threads/{api.thread('Hi')}/runs", {"assistant_id": assistant})
    assert run[name] == value
    assert sent(api, upstream, run) == {name: value}
    run = api.post("/threads/runs", {"assistant_id": assistant, "thread": {"messages": MESSAGES}})
    assert sent(api, upstream, run) == {name: value}


@EVERY
def test_a_modification_applies_to_later_runs(
    api: ApiClient, upstream: ScriptedUpstream, name: str, value: Any
) -> None:
    assistant = api.assistant()
    for given, expected in ((value, {name: value}), (None, {})):
        api.post(f"/assistants/{assistant}", {name: given})
        run = api.post(f"/threads/{api.thread('Hi')}/runs", {"assistant_id": assistant})
        assert sent(api, upstream, run) == expected


@EVERY
def test_a_run_s_option_replaces_the_assistant_s(
    api: ApiClient, upstream: ScriptedUpstream, name: str, value: Any
) -> None:
    for assistant in (api.assistant(), api.assistant(**{name: OTHER_VALUES[name]})):
        run = api.post(f"/threads/{api.thread('Hi')}/runs", {"assistant_id": assistant, name: value})
        assert run[name] == value
        assert sent(api, upstream, run) == {name: value}


@EVERY
def test_a_run_with_its_thread_takes_the_options_of_openai(
    api: ApiClient, upstream: ScriptedUpstream, name: str, value: Any
) -> None:
    body = {"assistant_id": api.assistant(), "thread": {"messages": MESSAGES}, name: value}
    if name in ThreadRunCreate.model_fields:
        assert sent(api, upstream, api.post("/threads/runs", body)) == {name: value}
    else:
        error = api.post("/threads/runs", body, 400)["error"]
        assert (error["param"], error["code"]) == (name, "unknown_parameter")


@EVERY
def test_an_assistant_s_option_applies_to_turns_of_langserve(
    api: ApiClient, server: ServerProcess, upstream: ScriptedUpstream, name: str, value: Any
) -> None:
    turn = {"assistant_id": api.assistant(**{name: value}), "content": "Hi"}
    answer = api.client.post(f"{server.url}/assistant/invoke", json={"input": turn})
    run = answer.json()["output"]["data"]
    assert run[name] == value
    assert sent(api, upstream, run) == {name: value}
