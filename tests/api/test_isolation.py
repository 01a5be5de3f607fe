"""Two keys, every operation of the OpenAPI document: another owner's object looks like one that does not exist.

The requests are generated from the document, so that new routes are included automatically.
"""

import itertools
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.api.conftest import ApiClient, client_of
from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream
from wire.ids import new_id

WEATHER = {"type": "function", "function": {"name": "getWeather", "parameters": {"type": "object"}}}
RESOURCES = {
    "code_interpreter": {"file_ids": ["{file_id}"]},
    "file_search": {"vector_store_ids": ["{vector_store_id}"]},
}
MESSAGE = {"role": "user", "content": "Mine", "attachments": [{"file_id": "{file_id}", "tools": []}]}
PICTURE = {"role": "user", "content": [{"type": "image_file", "image_file": {"file_id": "{file_id}"}}]}
OLD = {"role": "user", "content": "Mine", "file_ids": ["{file_id}"]}

BODIES: dict[str, list[Any]] = {
    "create_assistant": [{"model": "m", "tool_resources": RESOURCES}, {"model": "m", "file_ids": ["{file_id}"]}],
    "modify_assistant": [{"tool_resources": RESOURCES}, {"file_ids": ["{file_id}"]}],
    "create_thread": [{"messages": [one]} for one in (MESSAGE, PICTURE, OLD)] + [{"tool_resources": RESOURCES}],
    "modify_thread": [{"tool_resources": RESOURCES}],
    "create_message": [MESSAGE, PICTURE, OLD],
    "create_run": [
        {"assistant_id": "{assistant_id}"},
        *({"assistant_id": "{assistant_id}", "additional_messages": [one]} for one in (MESSAGE, PICTURE, OLD)),
    ],
    "create_thread_and_run": [
        {"assistant_id": "{assistant_id}"},
        {"assistant_id": "{assistant_id}", "tool_resources": RESOURCES},
        {"assistant_id": "{assistant_id}", "thread": {"messages": [MESSAGE], "tool_resources": RESOURCES}},
    ],
    "submit_tool_outputs": [{"tool_outputs": [{"tool_call_id": "call_1", "output": "x"}]}],
    "search_vector_store": [{"query": "cats"}],
    "create_vector_store": [{"file_ids": ["{file_id}"]}],
    "add_store_file": [{"file_id": "{file_id}"}],
    "add_assistant_file": [{"file_id": "{file_id}"}],
    "create_batch": [{"file_ids": ["{file_id}"]}, {"files": [{"file_id": "{file_id}"}]}],
    "modify_store_file": [{"attributes": {"a": "b"}}],
    "complete_chat": [{"model": "m", "messages": []}],
    "complete_upload": [{"part_ids": ["{part_id}"]}],
}
"""Bodies of the operations that want one; `{…}` is an id."""

UNNAMED = {"tool_call_id"}
"""What ends in `_id` and is no object's."""

Ids = Mapping[str, str]
Send = tuple[str, str, str, Any, dict[str, str]]
"""Operation, method, path, body, query; ids as `{name}`."""


@pytest.fixture(scope="module")
def document(keyed: ServerProcess) -> dict[str, Any]:
    found: dict[str, Any] = keyed.request("GET", "/openapi.json")
    return found


@pytest.fixture
def ann(keyed: ServerProcess) -> Iterator[ApiClient]:
    with client_of(keyed, "key-ann", timeout=15) as made:
        yield ApiClient(made)


@pytest.fixture
def bob(keyed: ServerProcess) -> Iterator[ApiClient]:
    with client_of(keyed, "key-bob", timeout=15) as made:
        yield ApiClient(made)


def make_objects(api: ApiClient, upstream: ScriptedUpstream) -> Ids:
    """Make one object of every kind; the keys are the names of path parameters."""
    upstream.default = lambda body: Reply(tool_calls=[("getWeather", {})])
    file = api.file("Cats purr.", purpose="user_data")
    store = api.post("/vector_stores", {"file_ids": [file]})["id"]
    api.wait_processed(f"/vector_stores/{store}")
    batch = api.post(f"/vector_stores/{store}/file_batches", {"file_ids": [file]})["id"]
    api.wait_processed(f"/vector_stores/{store}/file_batches/{batch}")
    asked = {"filename": "a.txt", "purpose": "user_data", "bytes": 4, "mime_type": "text/plain"}
    upload = api.post("/uploads", asked)["id"]
    part = api.client.post(f"/uploads/{upload}/parts", files={"data": b"data"}).json()["id"]
    assistant = api.assistant(tools=[WEATHER])
    api.post(f"/assistants/{assistant}/files", {"file_id": file})
    thread = api.thread("Hello")
    message = api.post(f"/threads/{thread}/messages", {"role": "user", "content": "Hi", "file_ids": [file]})["id"]
    run = api.post(f"/threads/{thread}/runs", {"assistant_id": assistant})
    assert api.wait_ended(run)["status"] == "requires_action"
    (step,) = api.get(f"/threads/{thread}/runs/{run['id']}/steps")["data"]
    return {
        "assistant_id": assistant,
        "thread_id": thread,
        "message_id": message,
        "run_id": run["id"],
        "step_id": step["id"],
        "file_id": file,
        "vector_store_id": store,
        "batch_id": batch,
        "upload_id": upload,
        "part_id": part,
    }


def unknown_ids() -> Ids:
    """Return ids that no object has."""
    kinds = {"assistant": "asst", "message": "msg", "vector_store": "vs", "batch": "vsfb"}
    names = ("assistant", "thread", "message", "run", "step", "file", "vector_store", "batch", "upload", "part")
    return {f"{name}_id": new_id(kinds.get(name, name)) for name in names}  # type: ignore[arg-type]


def requests_of(document: Mapping[str, Any], names: Ids) -> Iterator[Send]:
    """Yield every operation, with every body, and with every id as a cursor if it lists."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            name = operation["operationId"]
            query = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
            for body in BODIES.get(name, [{}] if "requestBody" in operation else [None]):
                yield name, method, path, body, {}
            for each in sorted(query & {"after", "before", "run_id"}):
                if name != "follow_events":
                    yield from ((name, method, path, None, {each: f"{{{kind}}}"}) for kind in names)


def named(send: Send, names: Ids) -> set[str]:
    """Return which ids a request contains."""
    return set(re.findall(r"\{(\w+)\}", f"{send[2]} {send[3]} {send[4]}")) & names.keys()


def filled(value: Any, ids: Ids) -> Any:
    match value:
        case str():
            for name, id in ids.items():
                value = value.replace(f"{{{name}}}", id)
            return value
        case dict():
            return {key: filled(each, ids) for key, each in value.items()}
        case list():
            return [filled(each, ids) for each in value]
        case _:
            return value


def answer(api: ApiClient, send: Send, ids: Ids) -> tuple[int, str, list[tuple[str, str]]]:
    """Return status, body and headers, with the sent ids replaced by their names."""
    _, method, path, body, query = send
    field = {"/v1/files": "file", "/v1/uploads/{upload_id}/parts": "data"}.get(path)
    files = {field: ("a.txt", b"a")} if field and method == "post" else None
    got = api.client.request(
        method.upper(),
        filled(path.removeprefix("/v1"), ids),
        json=filled(body, ids) if files is None else None,
        files=files,
        params=filled(query, ids),
    )
    text = got.text
    for name, id in ids.items():
        text = text.replace(id, name)
    headers = [(name, value) for name, value in got.headers.items() if name not in ("date", "x-request-id")]
    return got.status_code, text, headers


def mixtures(names: set[str]) -> Iterator[set[str]]:
    """Yield every selection of foreign ids, with at least one."""
    for count in range(1, len(names) + 1):
        yield from map(set, itertools.combinations(sorted(names), count))


def test_another_owner_s_object_looks_like_a_missing_one(
    document: dict[str, Any], ann: ApiClient, bob: ApiClient, upstream: ScriptedUpstream
) -> None:
    hers, his, none = make_objects(ann, upstream), make_objects(bob, upstream), unknown_ids()
    before = seen(document, ann, hers)
    crossed = set()
    for send in requests_of(document, hers):
        for foreign in mixtures(named(send, hers)):
            crossed.add(send[0])
            own = {name: id for name, id in his.items() if name not in foreign}
            result = answer(bob, send, {**own, **{name: hers[name] for name in foreign}})
            as_if = answer(bob, send, {**own, **{name: none[name] for name in foreign}})
            assert result == as_if, (send, foreign)
            nothing_listed = send[1] == "get" and '"data":[]' in result[1]
            assert result[0] in (400, 404) or nothing_listed, (send, foreign, result)
    assert seen(document, ann, hers) == before
    with_ids = {name for name, *_, path in operations(document) if "{" in path} - {"get_model"}
    assert with_ids <= crossed


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield operation["operationId"], operation, path


def seen(document: Mapping[str, Any], api: ApiClient, ids: Ids) -> list[Any]:
    """Return everything that an owner can read."""
    return [answer(api, send, ids) for send in requests_of(document, ids) if send[1] == "get" and not send[4]]


def test_every_body_that_can_name_an_object_is_tested(document: dict[str, Any]) -> None:
    def ids_in(schema: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
        if isinstance(schema, list):
            for each in schema:
                yield from ids_in(each, path)
        if not isinstance(schema, dict):
            return
        if "$ref" in schema and schema["$ref"] not in path:
            name = schema["$ref"].rpartition("/")[2]
            yield from ids_in(document["components"]["schemas"][name], (*path, schema["$ref"]))
        for key, inner in schema.items():
            if key == "properties":
                yield from (name for name in inner if name.endswith(("_id", "_ids")))
            yield from ids_in(list(inner.values()) if key == "properties" else inner, path)

    for name, operation, _ in operations(document):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        for field in set(ids_in(body)) - UNNAMED:
            assert f"'{field}'" in str(BODIES[name]), f"{name} accepts {field}"


def test_lists_show_nothing_of_other_owners(
    document: dict[str, Any], ann: ApiClient, bob: ApiClient, upstream: ScriptedUpstream
) -> None:
    hers = make_objects(ann, upstream)
    for name, operation, path in operations(document):
        if "{" not in path and "limit" in {one["name"] for one in operation.get("parameters", ())}:
            text = bob.client.get(path.removeprefix("/v1"), params={"limit": 100}).text
            assert not [id for id in hers.values() if id in text], name


@pytest.mark.parametrize(
    "named",
    [
        {"thread_id": "{thread_id}", "content": "Hi"},
        {"assistant_id": "{assistant_id}", "content": "Hi"},
        {"run_id": "{run_id}", "after": -1},
        {"run_id": "{run_id}", "tool_outputs": []},
        {"thread_id": "{thread_id}", "run_id": "{run_id}", "after": -1},
    ],
    ids=["thread", "assistant", "follow", "outputs", "both"],
)
def test_langserve_reveals_no_more(
    ann: ApiClient, bob: ApiClient, upstream: ScriptedUpstream, named: dict[str, Any]
) -> None:
    hers, none = make_objects(ann, upstream), unknown_ids()
    for path in ("/assistant/invoke", "/assistant/stream"):
        result = []
        for ids in (hers, none):
            url = str(bob.client.base_url).removesuffix("v1/") + path[1:]
            got = bob.client.post(url, json={"input": filled(named, ids)})
            text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "uuid", got.text)
            for name, id in ids.items():
                text = text.replace(id, name)
            result.append((got.status_code, text))
        assert result[0] == result[1]
        assert '"status":404' in result[0][1]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_time_of_a_404_reveals_nothing(
    record_property: Callable[[str, object], None], ann: ApiClient, bob: ApiClient, upstream: ScriptedUpstream
) -> None:
    """Medians of 3,000 requests each, in turns: another owner's id takes at most a twentieth longer than an unknown
    one."""
    hers, none = make_objects(ann, upstream), unknown_ids()
    for path in ("/threads/{thread_id}", "/threads/{thread_id}/runs/{run_id}", "/files/{file_id}"):
        taken: dict[str, list[float]] = {"hers": [], "none": []}
        for _ in range(3_000):
            for name, ids in (("hers", hers), ("none", none)):
                started = time.perf_counter()
                assert bob.client.get(filled(path, ids)).status_code == 404
                taken[name].append(time.perf_counter() - started)
        of_hers, of_none = (statistics.median(taken[name]) for name in ("hers", "none"))
        record_property(path, f"{of_hers * 1e6:.0f} µs for another owner's id, {of_none * 1e6:.0f} for an unknown one")
        assert abs(of_hers - of_none) < of_none / 20
