"""Embeddings from an upstream's model or the built-in one, for programs that do their own retrieval."""

import base64
import json
import struct
from collections.abc import Iterator
from math import isclose
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from langchain_openai import OpenAIEmbeddings

from tests.api.conftest import wait_loaded
from tests.process import ServerProcess
from tests.upstream import Fail, Hang, Raw, ScriptedUpstream, embeddings

BUILTIN = "all-MiniLM-L6-v2-int8"


@pytest.fixture(autouse=True)
def forgets(upstream: ScriptedUpstream) -> Iterator[None]:
    yield
    upstream.raw.clear()
    upstream.raw_seen.clear()
    upstream.extra["/v1/embeddings"] = embeddings


@pytest.fixture(scope="module")
def builtin(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A server whose EMBEDDINGS_MODEL is not set, and whose upstream lists chat models only."""
    settings = {"MODEL_URL": upstream.url, "MODEL_ALIASES": f"my-embedder={BUILTIN},*=test-model"}
    with (
        ServerProcess(tmp_path_factory.mktemp("builtin"), **settings) as process,
        httpx2.Client(base_url=f"{wait_loaded(process).url}/v1", timeout=90) as client,
    ):
        yield client


def embed(client: httpx2.Client, status: int = 200, **fields: Any) -> Any:
    answer = client.post("/embeddings", json={"model": "text-embedding-3-small", "input": "Hi", **fields})
    assert answer.status_code == status, answer.text
    return answer.json()


def floats(encoded: str) -> tuple[float, ...]:
    data = base64.b64decode(encoded)
    return struct.unpack(f"<{len(data) // 4}f", data)


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_the_built_in_model_recognizes_similar_texts(builtin: httpx2.Client) -> None:
    result = embed(
        builtin, input=["A cat sleeps on the sofa.", "The kitten naps on the couch.", "Interest rates rise."]
    )
    assert (result["object"], result["model"]) == ("list", BUILTIN)
    assert [(one["object"], one["index"], len(one["embedding"])) for one in result["data"]] == [
        ("embedding", index, 384) for index in range(3)
    ]
    cat, kitten, rates = (one["embedding"] for one in result["data"])
    assert isclose(cosine(cat, cat), 1, abs_tol=1e-5)
    assert cosine(cat, kitten) > cosine(cat, rates) + 0.3
    assert result["usage"]["prompt_tokens"] == result["usage"]["total_tokens"] > 15


def test_base64_has_the_same_numbers(builtin: httpx2.Client) -> None:
    plain, encoded = embed(builtin)["data"][0], embed(builtin, encoding_format="base64")["data"][0]
    assert all(map(isclose, floats(encoded["embedding"]), plain["embedding"]))
    assert embed(builtin, encoding_format="float")["data"][0] == plain


@pytest.mark.parametrize("model", ["text-embedding-ada-002", BUILTIN, "my-embedder", "anything"])
def test_any_unlisted_name_means_the_built_in_model(builtin: httpx2.Client, model: str) -> None:
    assert embed(builtin, model=model)["model"] == BUILTIN


def test_the_built_in_model_is_listed_where_it_answers(builtin: httpx2.Client, client: httpx2.Client) -> None:
    extended = {"x-threadhold-extensions": "true"}
    listed = {one["id"]: one for one in builtin.get("/models", headers=extended).json()["data"]}
    assert listed[BUILTIN]["threadhold"] == {"embeddings": True, "dimensions": 384}
    assert builtin.get(f"/models/{BUILTIN}", headers=extended).json() == listed[BUILTIN]
    assert BUILTIN not in {one["id"] for one in client.get("/models").json()["data"]}


def test_dimensions_of_the_built_in_model_are_fixed(builtin: httpx2.Client) -> None:
    assert len(embed(builtin, dimensions=384)["data"][0]["embedding"]) == 384
    error = embed(builtin, 400, dimensions=256)["error"]
    assert error["param"] == "dimensions"
    assert "384" in error["message"]


@pytest.mark.parametrize(
    ("fields", "param", "result"),
    [
        ({"input": ""}, "input", "empty"),
        ({"input": []}, "input", "0 elements"),
        ({"input": ["a", ""]}, "input", "element 1"),
        ({"input": ["a", None]}, "input", "element 1"),
        ({"input": ["a"] * 2049}, "input", "2049 elements"),
        ({"input": 5}, "input", "a string or an array"),
        ({"input": [1, 2]}, "input", "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, "input", "check_embedding_ctx_length=False"),
        ({"encoding_format": "hex"}, "encoding_format", "'float' and 'base64'"),
        ({"dimensions": 0}, "dimensions", ""),
        ({"dimensions": "5"}, "dimensions", "integer"),
        ({"model": ""}, "model", ""),
        ({"model": None}, "model", "string"),
        ({"user": 5}, "user", "string"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_parameters_are_named_for_every_model(
    builtin: httpx2.Client, client: httpx2.Client, fields: dict[str, Any], param: str, result: str
) -> None:
    for server in (builtin, client):
        error = embed(server, 400, **fields)["error"]
        assert (error["param"], error["type"]) == (param, "invalid_request_error")
        assert result in error["message"]


def test_overlong_texts_are_reported_in_tokens(builtin: httpx2.Client) -> None:
    error = embed(builtin, 400, input=["short", "word " * 9000])["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
    assert "8192 tokens" in error["message"]
    assert "element 1 of your input has 9002 tokens" in error["message"]
    error = embed(builtin, 400, input=["word " * 8000] * 40)["error"]
    assert "300000" in error["message"]


@pytest.mark.soak
@pytest.mark.timeout(300)  # two seconds of work, on a machine that can have other work
def test_as_many_texts_are_accepted_as_by_openai(builtin: httpx2.Client) -> None:
    result = embed(builtin, input=["a"] * 2048, encoding_format="base64")
    assert [one["index"] for one in result["data"]] == list(range(2048))


def test_the_server_answers_others_while_it_embeds(builtin: httpx2.Client) -> None:
    with pytest.raises(httpx2.TimeoutException):  # embedding stops when its client leaves
        builtin.post("/embeddings", json={"model": "m", "input": ["word " * 5000] * 40}, timeout=1)
    assert builtin.get("/health", timeout=1).json()["status"] == "ok"
    assert embed(builtin)["model"] == BUILTIN


def test_embeddings_model_answers_for_every_unlisted_name(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    upstream.raw["/v1/embeddings"] = vectors([[3, 4]])
    for model in ("of-words", "text-embedding-3-small"):
        result = embed(client, model=model, user="u", dimensions=2, input_type="query")
        assert result["data"] == [{"object": "embedding", "index": 0, "embedding": [3, 4]}]
        seen = upstream.raw_seen[-1]
        asked = {"model": "of-words", "input": ["Hi"], "user": "u", "dimensions": 2, "input_type": "query"}
        assert json.loads(seen.body) == asked
        assert seen.headers["authorization"] == "Bearer sk-of-the-server"


def test_a_listed_model_is_called_by_its_name_and_alias(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    upstream.raw["/v1/embeddings"] = vectors([[3, 4]])
    for model in ("test-model", "gpt-4o"):
        embed(client, model=model)
        assert json.loads(upstream.raw_seen[-1].body)["model"] == "test-model"


def vectors(content: list[Any], **more: Any) -> Raw:
    body = {"data": [{"embedding": one} for one in content], **more}
    return Raw([json.dumps(body).encode()], content_type="application/json")


ENCODED = base64.b64encode(struct.pack("<2f", 3, 4)).decode()


@pytest.mark.parametrize("wanted", [None, "float", "base64"])
@pytest.mark.parametrize("given", [[3.0, 4.0], ENCODED], ids=["floats", "base64"])
def test_vectors_have_the_requested_format(
    client: httpx2.Client, upstream: ScriptedUpstream, wanted: str | None, given: Any
) -> None:
    upstream.raw["/v1/embeddings"] = vectors([given], usage={"prompt_tokens": 7, "total_tokens": 7, "more": 1})
    result = embed(client, **{"encoding_format": wanted} if wanted else {})
    assert result == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": ENCODED if wanted == "base64" else [3.0, 4.0]}],
        "model": "of-words",
        "usage": {"prompt_tokens": 7, "total_tokens": 7, "more": 1},
    }


def test_an_upstream_that_refuses_base64_is_called_without_it(
    client: httpx2.Client, upstream: ScriptedUpstream
) -> None:
    def answered(body: dict[str, Any]) -> Any:
        if "encoding_format" in body:
            return Fail(400, {"error": {"message": "Unknown field: encoding_format"}})
        return {"data": [{"embedding": [3, 4]}]}

    upstream.extra["/v1/embeddings"] = lambda _: Fail(400, {"error": {"message": "encoding_format is missing"}})
    assert embed(client, 400)["error"]["message"] == "encoding_format is missing"
    upstream.extra["/v1/embeddings"] = answered
    assert embed(client, encoding_format="base64")["data"][0]["embedding"] == ENCODED


@pytest.mark.parametrize(
    ("result", "content_type"),
    [
        ({"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]}, "application/json"),
        ({"data": [{"embedding": [1]}, {"embedding": [2]}], "usage": "none"}, "application/json"),
        ({"data": [{"index": None, "embedding": [1]}, {"index": None, "embedding": [2]}]}, "application/json"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [2]}], "usage": None}, "text/plain"),
    ],
    ids=["disorder", "no index", "null index", "plain text"],
)
def test_vectors_are_accepted_in_every_shape_and_put_in_order(
    client: httpx2.Client, upstream: ScriptedUpstream, result: dict[str, Any], content_type: str
) -> None:
    upstream.raw["/v1/embeddings"] = Raw([json.dumps(result).encode()], content_type=content_type)
    answer = embed(client, input=["a", "b"])
    assert [one["embedding"] for one in answer["data"]] == [[1], [2]]
    assert answer["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense",
        b"[]",
        b'{"data": []}',
        b'{"data": [{}]}',
        b'{"data": [{"embedding": null}]}',
        b'{"data": [{"embedding": "?"}]}',
        b'{"data": [{"embedding": [1.0, null]}]}',
        b'{"data": [{"embedding": [[1.0, 2.0]]}]}',
        b'{"data": [5]}',
    ],
)
def test_an_answer_without_vectors_is_a_502(client: httpx2.Client, upstream: ScriptedUpstream, content: bytes) -> None:
    upstream.raw["/v1/embeddings"] = Raw([content], content_type="application/json")
    assert "one vector for each text" in embed(client, 502)["error"]["message"]


def test_an_error_instead_of_vectors_is_quoted(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    upstream.raw["/v1/embeddings"] = Raw(
        [b'{"error": {"message": "No credits left"}}'], content_type="application/json"
    )
    assert "No credits left" in embed(client, 502)["error"]["message"]


def test_errors_pass_and_overflow_is_openai_s_error(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    upstream.raw["/v1/embeddings"] = Fail(429, {"error": {"message": "slower"}})
    assert embed(client, 429)["error"]["message"] == "slower"
    upstream.raw["/v1/embeddings"] = Fail(
        400, {"error": {"message": "x", "type": "exceed_context_size_error", "n_prompt_tokens": 900, "n_ctx": 512}}
    )
    error = embed(client, 400)["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
    assert "512 tokens. However, your input resulted in 900 tokens" in error["message"]
    upstream.raw["/v1/embeddings"] = Fail(404, {"error": "not found"})
    assert "does not serve `/embeddings`" in embed(client, 404)["error"]["message"]


def test_a_client_that_leaves_closes_the_upstream(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    upstream.raw["/v1/embeddings"] = Hang()
    closed = upstream.closed_early
    with pytest.raises(httpx2.TimeoutException):
        client.post("/embeddings", json={"model": "m", "input": "Hi"}, timeout=0.3)
    upstream.wait_for(lambda up: up.closed_early == closed + 1, 2)


def test_upstreams_of_the_file_embed_by_their_names(tmp_path: Path) -> None:
    with ScriptedUpstream() as chat, ScriptedUpstream(models=[{"id": "e5"}]) as other:
        other.raw["/v1/embeddings"] = vectors([[1]])
        (tmp_path / "threadhold.toml").write_text(
            f"""
            model_aliases = "ada=others/e5"
            [upstreams.chats]
            url = "{chat.url}"
            [upstreams.others]
            url = "{other.url}"
            [upstreams.claude]
            provider = "anthropic"
            api_key = "sk-none"
            models = ["claude-test"]
            """
        )
        with (
            ServerProcess(tmp_path) as server,
            httpx2.Client(base_url=f"{wait_loaded(server).url}/v1", timeout=10) as client,
        ):
            for model in ("e5", "others/e5", "ada"):
                embed(client, model=model)
                assert json.loads(other.raw_seen[-1].body)["model"] == "e5"
            assert len(other.raw_seen) == 3
            assert "does not serve `/embeddings`" in embed(client, 404, model="claude-test")["error"]["message"]


def test_the_built_in_engine_s_models_make_no_embeddings(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path) as server,
        httpx2.Client(base_url=f"{wait_loaded(server).url}/v1", timeout=10) as client,
    ):
        demo, embedder = (one["id"] for one in client.get("/models").json()["data"])
        error = embed(client, 400, model=demo)["error"]
        assert (error["param"], embedder) == ("model", BUILTIN)
        assert f"Ask for `{BUILTIN}`" in error["message"]
        assert embed(client, model="text-embedding-3-small")["model"] == BUILTIN


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_the_official_sdk_gets_numbers(builtin: httpx2.Client, client: httpx2.Client, encoding: Any) -> None:
    for server in (builtin, client):
        with openai.OpenAI(base_url=str(server.base_url), api_key="any", max_retries=0) as sdk:
            options = {"encoding_format": encoding} if encoding else {}
            result = sdk.embeddings.create(model="text-embedding-3-small", input=["A cat", "A dog"], **options)
            plain = embed(server, input=["A cat", "A dog"])["data"][1]["embedding"]
            got: Any = result.data[1].embedding
            assert all(map(isclose, floats(got) if encoding == "base64" else got, plain))
            assert result.usage.total_tokens >= 0


def test_langchain_works_if_it_sends_texts(builtin: httpx2.Client) -> None:
    options: Any = {"model": "text-embedding-3-small", "base_url": str(builtin.base_url), "api_key": "any"}
    made = OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
    assert [len(vector) for vector in made.embed_documents(["A cat", "A dog"])] == [384, 384]


def test_no_other_model_replaces_an_unreachable_upstream(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, MODEL_URL="http://127.0.0.1:9/v1") as process,
        httpx2.Client(base_url=f"{process.url}/v1", timeout=30) as client,
    ):
        result = embed(client, status=503)
        assert "has not listed its models" in result["error"]["message"]
        assert BUILTIN in result["error"]["message"]
        assert len(embed(client, model=BUILTIN)["data"][0]["embedding"]) == 384
