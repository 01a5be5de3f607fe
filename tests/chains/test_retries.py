"""When and how often a model call is retried, and after which delays: the same for every failure and upstream."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import cycle
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from chains import OpenAIBackend, Provider, ReplyCall, RetryPolicy, Upstream
from chains.retries import retry_after_s
from tests.anthropic import ErrorReply, MessageReply, ScriptedAnthropic
from tests.chains.conftest import FAST, Connect
from tests.process import ServerProcess
from tests.upstream import Fail, Raw, Reply, ScriptedUpstream, Step
from wire.errors import PromptRefused, RateLimited, RunError, UpstreamFailed

CALL = ReplyCall(model="test-model", messages=[HumanMessage("hello there")])
BROKEN = Reply("never", cut_after=0)  # the connection ends before the first text


async def text(upstream: Upstream) -> str:
    return "".join([str(chunk.content) async for chunk in OpenAIBackend(upstream).stream(CALL)])


@pytest.fixture
async def anthropic() -> AsyncIterator[tuple[ScriptedAnthropic, Provider]]:
    """A scripted server, and a provider that retries its calls three times."""
    limits = replace(FAST, retry=replace(FAST.retry, retries=3))
    with ScriptedAnthropic() as up:
        provider = Provider("claude", "anthropic", url=up.url, api_key="sk-file", limits=limits)
        yield up, provider
        await provider.close()


async def text_of(provider: Provider) -> str:
    call = replace(CALL, model="claude-test")
    return "".join([str(chunk.content) async for chunk in provider.stream(call)])


def test_retry_after_is_parsed_as_seconds_or_a_date() -> None:
    assert retry_after_s({"Retry-After": "12"}) == 12
    assert retry_after_s({"Retry-After": "-3"}) == 0
    assert retry_after_s({"Retry-After": "never"}) is None
    assert retry_after_s({}) is None
    soon = retry_after_s({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)})
    assert soon is not None
    assert 28 < soon <= 30
    assert retry_after_s({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after_s({"Retry-After": "Mon, 01 Jan 0001 00:00:00 -0000"}) in (None, 0)


def test_back_off_grows_with_jitter_up_to_its_limit() -> None:
    policy = RetryPolicy(backoff_s=0.5, max_backoff_s=4.0)
    for attempt, maximum in enumerate([0.5, 1.0, 2.0, 4.0, 4.0, 4.0]):
        delays = {policy.delay_s(attempt) for _ in range(50)}
        assert len(delays) > 10
        assert all(0.75 * maximum <= delay <= maximum for delay in delays)


@pytest.mark.parametrize("headers", [None, {"Retry-After": "3600"}], ids=["back-off", "asked for"])
def test_no_delay_is_longer_than_its_limit(headers: dict[str, str] | None) -> None:
    assert RetryPolicy(backoff_s=50, max_backoff_s=90, max_wait_s=3).delay_s(2, headers) == 3


@pytest.mark.parametrize(
    "steps",
    [[Fail(503)], [BROKEN], [Fail(503), BROKEN], [BROKEN, Fail(429), BROKEN], [Raw(then="drop")]],
    ids=["status", "broke off", "status then broke off", "three kinds", "dropped"],
)
@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_all_failures_of_a_call_count_together(
    up: ScriptedUpstream, connect: Connect, steps: list[Step], retries: int
) -> None:
    kinds = cycle(steps)
    up.default = lambda _: next(kinds)
    policy = RetryPolicy(retries, backoff_s=0.001)
    with pytest.raises(RunError):
        await text(await connect(up.url, limits=replace(FAST, retry=policy)))
    assert len(up.requests) == 1 + retries


@pytest.mark.parametrize(
    ("step", "requests"),
    [
        (Fail(503, headers={"x-should-retry": "false"}), 1),
        (Fail(400, headers={"x-should-retry": "true"}), 3),
        (Fail(503, headers={"x-should-retry": "perhaps"}), 3),
    ],
    ids=["no", "yes", "neither"],
)
async def test_the_upstream_can_ask_for_retries_or_refuse_them(
    up: ScriptedUpstream, connect: Connect, step: Fail, requests: int
) -> None:
    up.default = lambda _: step
    with pytest.raises(RunError):
        await text(await connect(up.url))
    assert len(up.requests) == requests


# --- Anthropic --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "kind", "requests"),
    [
        (ErrorReply(529, "overloaded_error", "Overloaded", {"retry-after": "3600"}), UpstreamFailed, 4),
        (ErrorReply(429, "rate_limit_error", "Too many"), RateLimited, 4),
        (ErrorReply(529, "overloaded_error", "Overloaded", {"x-should-retry": "false"}), UpstreamFailed, 1),
        (ErrorReply(400, "invalid_request_error", "messages: too odd"), PromptRefused, 1),
        (MessageReply(cut=True), UpstreamFailed, 4),
        (MessageReply("Hello", cut=True), UpstreamFailed, 1),
    ],
    ids=["overloaded", "limited", "retries forbidden", "refused", "broke off", "broke off after a text"],
)
async def test_anthropic_is_retried_by_the_same_policy(
    anthropic: tuple[ScriptedAnthropic, Provider], step: ErrorReply | MessageReply, kind: type[RunError], requests: int
) -> None:
    up, provider = anthropic
    up.script(*[step] * 4)
    with pytest.raises(kind):
        await text_of(provider)
    assert len(up.bodies) == requests


async def test_anthropic_answers_after_its_retries(anthropic: tuple[ScriptedAnthropic, Provider]) -> None:
    up, provider = anthropic
    up.script(
        ErrorReply(529, "overloaded_error", "Overloaded"), MessageReply(cut=True), ErrorReply(500, "api_error", "Oops")
    )
    assert await text_of(provider) == "Hello there"


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("retries", "fails"), [("0", 1), ("3", 4)])
def test_the_settings_limit_retries_and_delays_of_a_run(
    tmp_path: Path, up: ScriptedUpstream, retries: str, fails: int
) -> None:
    up.default = lambda _: Fail(503, headers={"Retry-After": "3600"})
    settings = {"MODEL_URL": up.url, "UPSTREAM_RETRIES": retries, "UPSTREAM_RETRY_MAX_S": "0.01"}
    with ServerProcess(tmp_path, **settings) as server:
        assistant = server.request("POST", "/assistants", {"model": "test-model"})["id"]
        thread = server.request("POST", "/threads", {"messages": [{"role": "user", "content": "hi"}]})["id"]
        run = server.request("POST", f"/threads/{thread}/runs", {"assistant_id": assistant})
        while run["status"] in ("queued", "in_progress"):
            run = server.request("GET", f"/threads/{thread}/runs/{run['id']}")
    assert (run["status"], len(up.requests)) == ("failed", fails)
