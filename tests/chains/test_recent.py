"""Clients name models; what is remembered by these names has a bound."""

from langchain_core.messages import HumanMessage

from chains import Replies, ReplyCall
from chains.recent import MOST_MODELS, Recent
from tests.chains.conftest import Connect
from tests.upstream import Reply, ScriptedUpstream


def test_the_last_names_are_known_and_a_name_learned_anew_is_among_them() -> None:
    recent: Recent[int] = Recent()
    for number in range(MOST_MODELS):
        recent[f"model {number}"] = number
    recent["model 0"] = 0
    recent["one more"] = 1
    assert len(recent) == MOST_MODELS
    assert "model 0" in recent
    assert "model 1" not in recent
    recent["x" * 10_000] = 1
    assert "x" * 10_000 not in recent
    assert len(recent) == MOST_MODELS


async def test_names_that_clients_make_up_do_not_fill_the_memory(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    up.default = lambda body: Reply("<think>Hm.</think>So.")
    for number in range(MOST_MODELS + 50):
        upstream.learn_limit(f"made up {number}", 4096)
        upstream.note_thinker(f"made up {number}", begins=True)
        upstream.calibration.learn(f"made up {number}", chars=1000, tokens=300)
    assert (upstream.context_limit("made up 49"), upstream.context_limit("made up 50")) == (None, 4096)
    assert len(upstream.thinkers) == len(upstream.calibration._ratios) == MOST_MODELS
    call = ReplyCall(model="made up 1049", messages=[HumanMessage("Well?")])
    assert [chunk async for chunk in Replies(upstream).stream(call)]
