"""The short way of a turn's requests answers as FastAPI's does."""

import inspect
import re
from typing import Any

import pytest
from fastapi.routing import APIRoute

from api import messages, runs, threads
from api.express import EXPRESS
from tests.api.conftest import World

GIVEN = {"house", "owner", "v1", "thread_id", "body", "extensions"}


def test_fastapi_would_do_no_more_for_these_routes_than_the_short_way_does() -> None:
    routes = {route.endpoint: route for room in (messages, runs, threads) for route in room.router.routes}  # type: ignore[attr-defined]
    for path, way in EXPRESS.items():
        route: Any = way.route
        assert isinstance(route, APIRoute)
        assert routes[route.endpoint] is route
        assert route.path == path
        assert route.methods == {"POST"}
        assert not route.dependencies
        assert route.status_code in (None, 200)
        parameters = inspect.signature(route.endpoint).parameters
        assert set(parameters) <= GIVEN | {"contents", "_"}  # the last two: `include[]`, which is in a query
        assert parameters["body"].annotation is way.model
    assert not any(room.router.dependencies for room in (messages, runs, threads))


BODIES: dict[str, Any] = {
    "/threads": {"messages": [{"role": "user", "content": "Hi"}], "metadata": {"a": "b"}},
    "/threads/runs": {"assistant_id": "ASSISTANT", "thread": {"messages": [{"role": "user", "content": "Hi"}]}},
    "/threads/THREAD/messages": {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    "/threads/THREAD/runs": {"assistant_id": "ASSISTANT", "model": "m"},
}
WRONG = [
    *((path, {**body, "stray": 1}) for path, body in BODIES.items()),
    ("/threads", {"messages": "no"}),
    ("/threads/nonsense/messages", BODIES["/threads/THREAD/messages"]),
    ("/threads/thread_aaaaaaaaaaaaaaaaaaaaaaaa/messages", BODIES["/threads/THREAD/messages"]),
    ("/threads/thread_aaaaaaaaaaaaaaaaaaaaaaaa/runs", BODIES["/threads/THREAD/runs"]),
    ("/threads/THREAD/messages", {"role": "user", "content": 1}),
    ("/threads/THREAD/runs", {"assistant_id": "asst_aaaaaaaaaaaaaaaaaaaaaaaa"}),
    ("/threads/THREAD/runs", {"assistant_id": "stranger"}),
    ("/threads/THREAD/elsewhere", {}),
]


@pytest.mark.parametrize(
    ("path", "body", "good"), [*((*one, True) for one in BODIES.items()), *((*one, False) for one in WRONG)]
)
@pytest.mark.parametrize("beta", ["assistants=v2", "assistants=v1"])
def test_both_ways_answer_the_same(world: World, path: str, body: Any, good: bool, beta: str) -> None:
    """What has a query goes FastAPI's way."""
    assistant, told = world.assistant(), []
    for query in ("", "?any=1"):
        body = {**body, **({"assistant_id": assistant} if body.get("assistant_id") == "ASSISTANT" else {})}
        url = path.replace("THREAD", world.thread("Hello"))
        answer = world.client.post(url + query, json=body, headers={"OpenAI-Beta": beta})
        names = sorted(set(answer.headers) - {"date"})
        told.append((answer.status_code, names, re.sub(r"_[A-Za-z0-9]{24}|_at\":\d+", "", answer.text)))
    assert told[0] == told[1]
    assert (told[0][0] == 200) == good


def test_a_stream_is_the_same_by_both_ways(world: World) -> None:
    assistant, told = world.assistant(), []
    for query in ("", "?any=1"):
        body = {"assistant_id": assistant, "stream": True}
        answer = world.client.post(f"/threads/{world.thread('Hello')}/runs{query}", json=body)
        told.append((answer.headers["content-type"], re.sub(r"_[A-Za-z0-9]{24}|_at\":\d+", "", answer.text)))
    assert told[0] == told[1]
    assert "thread.run.completed" in told[0][1]
