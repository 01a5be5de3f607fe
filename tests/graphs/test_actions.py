"""Actions in runs: together with functions, with approval, with failures, and as shown in steps."""

from typing import Any

import pytest

from tests.graphs.harness import OWNER, TIME, harness, names
from tests.graphs.test_runner import answer, wanted
from tests.graphs.tools.apis import Answer, Api, Seen, document
from tests.upstream import Reply, ScriptedUpstream


def action(api: Api, **data: Any) -> dict[str, Any]:
    paths = {"/city": {"get": {"operationId": "getCity"}}, "/order": {"post": {"operationId": "makeOrder"}}}
    return {"type": "action", "data": {"openapi_spec": document(api.url, paths), **data}}


def outputs_in(body: dict[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"] if message["role"] == "tool"]


async def test_the_server_calls_an_action_and_the_model_gets_its_answer(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("One moment.", tool_calls=[("getCity", {})]), Reply("Paris."))
    with Api(lambda _: Answer(body=b'{"city":"Paris"}')) as api:
        async with harness(upstream) as small:
            started = await small.start_run(tools=[action(api, headers={"X-Key": "s3cret"})])
            events = await small.events(started.run_id)
            assert names(events)[-1] == "run.completed"
            assert "run.requires_action" not in names(events)
            assert '"city": "Paris"' in outputs_in(upstream.requests[1].body)[0].replace('":"', '": "')
            assert api.seen[0].headers["X-Key"] == "s3cret"
            assert all(b"s3cret" not in event.json for event in events)
            steps = await small.rows("step", started)
            assert [step["type"] for step in steps] == ["message_creation", "tool_calls", "message_creation"]
            (call,) = steps[1]["step_details"]["tool_calls"]
            assert call["type"] == "function"
            assert "Paris" in call["function"]["output"]
            assert api.seen[0].headers["Idempotency-Key"] == call["id"]
            run = await small.run(started)
            assert run["usage"]["total_tokens"] == sum(step["usage"]["total_tokens"] for step in steps)


async def test_actions_and_functions_of_one_turn_are_all_answered_first(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script(Reply(tool_calls=[("getCity", {}), ("getTime", {}), ("makeOrder", {})]), Reply("Done."))
    with Api() as api:
        async with harness(upstream) as small:
            started = await small.start_run(tools=[action(api), TIME])
            await small.events(started.run_id)
            assert sorted(seen.path for seen in api.seen) == ["/city", "/order"]
            run = await small.run(started)
            assert [call["function"]["name"] for call in wanted(run)] == ["getTime"]
            (step,) = await small.rows("step", started)
            assert [bool(call["function"]["output"]) for call in step["step_details"]["tool_calls"]] == [
                True,
                False,
                True,
            ]
            again = await answer(small, started, "noon")
            later = await small.events(started.run_id, again.after)
            assert names(later)[0] == "run.step.completed"
            assert [text == "noon" for text in outputs_in(upstream.requests[1].body)] == [False, True, False]
            assert len(api.seen) == 2


@pytest.mark.parametrize("name", ["getTime", "makeOrder"])
async def test_a_chosen_function_is_the_one_that_the_model_must_call(upstream: ScriptedUpstream, name: str) -> None:
    upstream.script(Reply("Done."))
    choice = {"type": "function", "function": {"name": name}}
    with Api() as api:
        async with harness(upstream) as small:
            started = await small.start_run(tools=[action(api), TIME], tool_choice=choice)
            await small.events(started.run_id)
    assert upstream.requests[0].body["tool_choice"] == choice


@pytest.mark.parametrize(("verdict", "calls"), [("approved", 1), ("denied", 0), ("whatever", 0)])
async def test_a_consequential_call_is_made_only_after_approval(
    upstream: ScriptedUpstream, verdict: str, calls: int
) -> None:
    upstream.script(Reply(tool_calls=[("makeOrder", {})]), Reply("Well."))
    with Api() as api:
        async with harness(upstream) as small:
            started = await small.start_run(tools=[action(api, is_consequential=True)])
            await small.events(started.run_id)
            (call,) = wanted(await small.run(started))
            assert call["function"]["name"] == "makeOrder"
            assert not api.seen
            again = await answer(small, started, verdict)
            later = await small.events(started.run_id, again.after)
            assert names(later)[-1] == "run.completed"
            assert names(later).count("run.step.completed") == 2
            assert len(api.seen) == calls
            assert ("denied" in outputs_in(upstream.requests[1].body)[0]) is (calls == 0)
            output = (await small.rows("step", started))[0]["step_details"]["tool_calls"][0]["function"]["output"]
            assert output == outputs_in(upstream.requests[1].body)[0]


@pytest.mark.parametrize("status", [404, 500, 302])
async def test_the_model_gets_an_action_s_failure_and_the_run_continues(
    upstream: ScriptedUpstream, status: int
) -> None:
    def fails(_: Seen) -> Answer:
        return Answer(status=status, headers={"Location": "http://169.254.169.254/"}, body=b"no such thing")

    upstream.script(Reply(tool_calls=[("getCity", {})]), Reply("Sorry."))
    with Api(fails) as api:
        async with harness(upstream) as small:
            started = await small.start_run(tools=[action(api)])
            await small.events(started.run_id)
            assert (await small.run(started))["status"] == "completed"
            assert len(outputs_in(upstream.requests[1].body)) == 1
            assert len(api.seen) == 1


async def test_an_action_s_secrets_are_in_no_row_and_no_event(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("x"))
    with Api() as api:
        async with harness(upstream) as small:
            tool = action(api, auth={"type": "bearer", "token": "t0ken-of-ours"})
            started = await small.start_run(tools=[tool])
            events = await small.events(started.run_id)
            assert "t0ken" not in str(await small.run(started))
            assert all(b"t0ken" not in event.json for event in events)
            row = await small.store.get("run", started.run_id, OWNER)
            assert row is not None
            assert "t0ken-of-ours" in str(row.private)
