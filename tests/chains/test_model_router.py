"""Which upstream a name is routed to, with real servers: only the configuration determines routing."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from chains import ModelRouter, OpenAIBackend, ReplyCall, RoutedUpstream, Upstream, build_chat_chain
from tests.chains.conftest import FAST
from tests.upstream import Fail, Hang, Reply, ScriptedUpstream
from wire.errors import InvalidRequest, PromptRefused, UpstreamProblem


class Deps:
    """Three servers: `first` (MODEL_URL's), `a` and `b`, and the requests of each."""

    def __init__(self, servers: dict[str, ScriptedUpstream]) -> None:
        self.servers = servers

    def lists(self, **models: str) -> None:
        for name, ids in models.items():
            self.servers[name].models = [{"id": id} for id in ids.split()]

    def asked(self) -> dict[str, list[str]]:
        """Return the models that were requested from each server, and clear the requests."""
        names = {name: [seen.body["model"] for seen in up.requests] for name, up in self.servers.items() if up.requests}
        for up in self.servers.values():
            up.requests.clear()
        return names

    @asynccontextmanager
    async def router(self, *, first: bool = True, models: dict[str, Any] | None = None, **options: Any) -> Any:
        async with AsyncExitStack() as stack:
            members = []
            for name, up in self.servers.items():
                if name == "first" and not first:
                    continue
                named = "" if name == "first" else name
                upstream = Upstream(up.url, api_key=f"key-of-{name}", limits=FAST, name=named)
                members.append(
                    RoutedUpstream(named, upstream, OpenAIBackend(upstream), tuple((models or {}).get(name, ())))
                )
            router = ModelRouter(members, **options)
            await router.open()
            stack.push_async_callback(router.close)
            yield router


@pytest.fixture
def deps() -> Iterator[Deps]:
    with ScriptedUpstream() as first, ScriptedUpstream() as a, ScriptedUpstream() as b:
        deps = Deps({"first": first, "a": a, "b": b})
        deps.lists(first="local org/local both", a="x shared both", b="y shared")
        yield deps


async def answer_of(router: ModelRouter, model: str) -> str:
    chunks: AsyncIterator[Any] = router.stream(ReplyCall(model=model, messages=[HumanMessage("hi")]))
    return "".join([chunk.content async for chunk in chunks])


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("local", {"first": ["local"]}),
        ("", {"first": ["local"]}),
        ("unknown", {"first": ["unknown"]}),
        ("maker/local", {"first": ["local"]}),
        ("x", {"a": ["x"]}),
        ("a/x", {"a": ["x"]}),
        ("b/anything", {"b": ["anything"]}),
        ("b/maker/y", {"b": ["y"]}),
        ("b/shared", {"b": ["shared"]}),
        ("both", {"first": ["both"]}),
        ("a/both", {"a": ["both"]}),
        ("gpt-4", {"b": ["y"]}),
        ("short", {"a": ["x"]}),
        ("c/x", {"first": ["c/x"]}),
    ],
)
async def test_a_name_means_one_upstream(deps: Deps, name: str, asked: dict[str, list[str]]) -> None:
    async with deps.router(aliases={"gpt-4": "b/y", "short": "x"}) as router:
        for _ in range(2):
            assert await answer_of(router, name) == "Echo: hi"
            assert deps.asked() == asked
            with closing(await router.pass_through({"model": name, "messages": []})) as answer:
                async with aclosing(answer.blocks()) as blocks:
                    await anext(blocks)
            assert deps.asked() == asked
            await build_chat_chain(router).ainvoke({"human": "hi"}, {"configurable": {"model": name}})
            assert deps.asked() == asked


async def test_each_upstream_gets_its_own_key_only(deps: Deps) -> None:
    async with deps.router() as router:
        for name in ("local", "x", "y"):
            await answer_of(router, name)
        for name, up in deps.servers.items():
            assert {seen.headers["authorization"] for seen in up.requests} == {f"Bearer key-of-{name}"}


async def test_the_chat_chain_learns_about_models_by_upstream(deps: Deps) -> None:
    def picky(body: dict[str, Any]) -> Fail | Reply:
        refused = Fail(400, {"error": {"message": "System role not supported"}})
        return refused if body["messages"][0]["role"] == "system" else Reply("Fine.")

    deps.servers["a"].default = picky
    async with deps.router() as router:
        chain = build_chat_chain(router)
        for name in ("a/shared", "b/shared"):
            await chain.ainvoke({"system": "S", "human": "hi"}, {"configurable": {"model": name}})
    assert [turn["role"] for turn in deps.servers["b"].requests[-1].body["messages"]] == ["system", "user"]


async def test_an_ambiguous_name_names_its_candidates_without_a_request(deps: Deps) -> None:
    async with deps.router() as router:
        with pytest.raises(PromptRefused, match=r"`shared`: name one of `a/shared`, `b/shared`"):
            await answer_of(router, "shared")
        with pytest.raises(InvalidRequest, match="`b/shared`"):
            await router.pass_through({"model": "shared", "messages": []})
        with pytest.raises(InvalidRequest, match="must be a string"):
            await router.pass_through({"model": 3, "messages": []})
        assert deps.asked() == {}


async def test_without_model_url_an_unknown_name_is_refused(deps: Deps) -> None:
    async with deps.router(first=False) as router:
        with pytest.raises(PromptRefused, match=r"No upstream has the model `gpt`. Use one of `a/x`, .*`b/y`"):
            await answer_of(router, "gpt")
        assert deps.asked() == {}
        await answer_of(router, "")
        assert deps.asked() == {"a": ["x"]}


async def test_models_of_the_file_are_the_only_ones_of_an_upstream(deps: Deps) -> None:
    async with deps.router(models={"a": ["m1", "m2"]}) as router:
        await answer_of(router, "m2")
        await answer_of(router, "a/")
        assert deps.asked() == {"a": ["m2", "m1"]}
        with pytest.raises(PromptRefused, match=r"does not have `x`; it has `a/m1`, `a/m2`"):
            await answer_of(router, "a/x")
        await answer_of(router, "x")
        assert deps.asked() == {"first": ["x"]}


async def test_an_outage_sends_nothing_to_another_host(deps: Deps) -> None:
    deps.servers["first"].models_reply = Fail(500)
    async with deps.router(models={"b": ["named"]}) as router:
        await answer_of(router, "both")
        assert deps.asked() == {"first": ["both"]}
        await answer_of(router, "named")
        assert deps.asked() == {"b": ["named"]}


async def test_a_route_without_a_listing_waits_for_none(deps: Deps) -> None:
    for up in deps.servers.values():
        up.models_reply = Hang()
    async with deps.router(aliases={"short": "b/y"}) as router:
        await answer_of(router, "a/x")
        await answer_of(router, "short")
        assert deps.asked() == {"a": ["x"], "b": ["y"]}


async def test_models_are_listed_with_their_shortest_unambiguous_name(deps: Deps) -> None:
    async with deps.router(models={"b": ["y", "shared"]}) as router:
        ids = [entry["id"] for entry in await router.models()]
        assert ids == ["local", "org/local", "both", "x", "a/shared", "a/both", "y", "b/shared"]
        for id in ids:
            await answer_of(router, id)
        names = deps.asked()
        assert names == {"first": ["local", "org/local", "both"], "a": ["x", "shared", "both"], "b": ["y", "shared"]}
        owners = {entry["id"]: entry.get("owned_by") for entry in await router.models()}
        assert (owners["x"], owners["y"]) == ("a", "b")
        whole = {entry["id"]: entry.get("threadhold", {}).get("model") for entry in await router.models()}
        assert (whole["x"], whole["b/shared"], whole["local"]) == ("a/x", "b/shared", None)


async def test_one_unreachable_upstream_is_named_and_hides_no_other(deps: Deps) -> None:
    deps.servers["a"].models_reply = Fail(401)
    async with deps.router() as router:
        assert [entry["id"] for entry in await router.models()] == ["local", "org/local", "both", "y", "shared"]
        reason = await router.check()
        assert reason.startswith("`a`: ")
        assert "`api_key` of [upstreams.a]" in reason
        assert "`b`" not in reason
    for up in deps.servers.values():
        up.models_reply = Fail(500)
    async with deps.router() as router:
        with pytest.raises(UpstreamProblem, match="500"):
            await router.models()
        assert "the unnamed one: " in str(await router.check())


async def test_limits_and_ratios_are_kept_per_upstream(deps: Deps) -> None:
    deps.servers["b"].models = [{"id": "y", "max_model_len": 4096}]
    async with deps.router(aliases={"short": "b/y"}) as router:
        await router.models()
        assert [router.context_limit(name) for name in ("y", "b/y", "short", "local")] == [4096, 4096, 4096, None]
        router.learn_limit("y", 2048)
        assert router.context_limit("b/y") == 2048
        router.calibrate("short", chars=1000, prompt_tokens=500)
        assert router.tokens_per_char("y") == 0.5
        assert router.tokens_per_char("local") != 0.5
