"""Unimplemented paths are passed through to an upstream, including streams and uploads."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from api.forwarding import FORM_PATHS, FORWARDED
from tests.api.conftest import wait_loaded
from tests.process import ServerProcess
from tests.upstream import Fail, Hang, Raw, ScriptedUpstream, SeenRaw, Step

SOUND = [b"\xff\xfb" + bytes(range(256)), b"\x00" * 500, b"end"]
JSON_PATHS = [one.path for one in FORWARDED if "application/json" in one.takes]
HEADERS = {"authorization": "Bearer of-the-client", "cookie": "secret=1", "x-custom": "y", "openai-organization": "org"}


def json_answer(body: Any, status: int = 200) -> Raw:
    return Raw([json.dumps(body).encode()], status=status, content_type="application/json")


@pytest.fixture(autouse=True)
def forgets(upstream: ScriptedUpstream) -> Iterator[None]:
    yield
    upstream.raw.clear()
    upstream.raw_seen.clear()


def answers(upstream: ScriptedUpstream, path: str, step: Step) -> None:
    upstream.raw[f"/v1{path}"] = step


def fields(seen: SeenRaw) -> list[tuple[str, str | None, bytes]]:
    """Return a form's fields: name, file name and bytes of each part."""
    boundary = seen.headers["content-type"].partition("boundary=")[2].strip('"').encode()
    first, *parts, last = seen.body.split(b"--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    result = []
    for part in parts:
        head, _, value = part.partition(b"\r\n\r\n")
        names = dict(re.findall(r'(name|filename)="([^"]*)"', head.decode()))
        assert value.endswith(b"\r\n")
        result.append((names["name"], names.get("filename"), value[:-2]))
    return result


@pytest.mark.parametrize("path", JSON_PATHS)
def test_a_request_gets_the_model_s_name_and_our_key(
    client: httpx2.Client, upstream: ScriptedUpstream, path: str
) -> None:
    answers(upstream, path, json_answer({"id": "1", "ünlike": [1, None]}))
    body = {"model": "gpt-4o", "input": "Hi", "prompt": "Hi", "max_tokens": 5, "odd": {"deep": [1.5]}}
    answer = client.post(path, json=body, headers=HEADERS)
    assert (answer.status_code, answer.json()) == (200, {"id": "1", "ünlike": [1, None]})
    seen = upstream.raw_seen[-1]
    assert json.loads(seen.body) == {**body, "model": "test-model"}
    assert seen.headers["authorization"] == "Bearer sk-of-the-server"
    assert not {"cookie", "x-custom", "openai-organization"} & seen.headers.keys()
    assert "of-the-client" not in str(seen.headers)


def test_without_a_model_only_text_bodies_change(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    for path in ("/moderations", "/completions"):
        answers(upstream, path, json_answer({}))
        assert client.post(path, json={"input": "Hi"}).status_code == 200
    moderated, completed = (json.loads(seen.body) for seen in upstream.raw_seen)
    assert moderated == {"input": "Hi"}
    assert completed == {"input": "Hi", "model": "test-model"}


def test_audio_streams_back_block_by_block(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    answers(upstream, "/audio/speech", Raw(SOUND, content_type="audio/mpeg", delay_s=0.05))
    with client.stream("POST", "/audio/speech", json={"model": "tts-1", "input": "Hi"}) as answer:
        blocks = list(answer.iter_raw())
    assert answer.headers["content-type"] == "audio/mpeg"
    assert len(blocks) > 1
    assert b"".join(blocks) == b"".join(SOUND)


def test_an_event_stream_passes_and_reports_its_interruption(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    answers(upstream, "/completions", Raw([b'data: {"choices": []}\n\n'], then="drop"))
    result = client.post("/completions", json={"prompt": "Hi", "stream": True}).text
    assert "broke off" in result


def test_interrupted_audio_is_not_complete(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    answers(upstream, "/audio/speech", Raw(SOUND, content_type="audio/mpeg", then="drop"))
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.request("POST", "/v1/audio/speech", '{"input": "Hi"}', {"content-type": "application/json"})
        with pytest.raises(IncompleteRead) as broken:
            connection.getresponse().read()
    assert b"".join(SOUND).startswith(broken.value.partial)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("order", ["model first", "file first"])
def test_a_form_passes_unchanged_wherever_its_model_field_is(
    client: httpx2.Client, upstream: ScriptedUpstream, order: str
) -> None:
    answers(upstream, "/audio/transcriptions", json_answer({"text": "Hello"}))
    sound = bytes(range(256)) * 12_000  # several blocks, with a fake boundary in them
    model, file = ("model", (None, "gpt-4o")), ("file", ("Zoë.mp3", b"\r\n--" + sound, "audio/mpeg"))
    parts = [model, file] if order == "model first" else [file, model]
    parts += [("timestamp_granularities[]", (None, "word")), ("timestamp_granularities[]", (None, "segment"))]  # type: ignore[list-item]
    answer = client.post("/audio/transcriptions", files=parts, headers=HEADERS)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()) == (200, {"text": "Hello"})
    seen = upstream.raw_seen[-1]
    assert fields(seen) == [
        ("model", None, b"test-model"),
        ("file", "Zoë.mp3", b"\r\n--" + sound),
        ("timestamp_granularities[]", None, b"word"),
        ("timestamp_granularities[]", None, b"segment"),
    ]
    assert seen.headers["content-length"] == str(len(seen.body))  # not in chunks, which some engines cannot read
    assert seen.headers["authorization"] == "Bearer sk-of-the-server"
    assert not {"cookie", "x-custom"} & seen.headers.keys()


def test_a_form_is_answered_by_a_stream_while_it_arrives(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    frames = [b'data: {"type": "transcript.text.delta", "delta": "Hel"}\n\n', b'data: {"delta": "lo"}\n\n']
    answers(upstream, "/audio/transcriptions", Raw(frames, delay_s=0.1))
    form: Any = {"file": ("a.mp3", b"x" * 3_000_000), "model": (None, "whisper-1"), "stream": (None, "true")}
    with client.stream("POST", "/audio/transcriptions", files=form) as answer:
        blocks = list(answer.iter_raw())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert len(blocks) > 1
    assert b"".join(blocks) == b"".join(frames)


def test_a_form_without_a_model_is_passed_without_one(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    answers(upstream, "/images/variations", json_answer({"data": []}))
    assert client.post("/images/variations", files={"image": ("a.png", b"png")}).status_code == 200
    assert fields(upstream.raw_seen[-1]) == [("image", "a.png", b"png")]


PURE = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'


@pytest.mark.parametrize(
    ("kind", "body", "status", "result"),
    [
        (PURE, PART % (b"model", b"m"), 400, "has no end"),
        (PURE, b"nothing", 400, "could not parse"),
        ("multipart/form-data", PART % (b"model", b"m") + b"--b--", 400, "boundary"),
        (PURE, PART % (b"model", b"m") * 2 + b"--b--\r\n", 400, "more than one `model`"),
        (PURE, PART % (b"model", b"m" * 2000) + b"--b--\r\n", 400, "1024 bytes"),
        (PURE, PART % (b"x", b"") * 129 + b"--b--\r\n", 400, "128 parts"),
        (PURE, b"--b\r\nX: " + b"y" * 20_000 + b"\r\n\r\n\r\n--b--\r\n", 400, "header"),
        ("application/json", b"{}", 415, "multipart/form-data"),
        ("text/plain", b"x", 415, "content type"),
    ],
    ids=["cut off", "no form", "no boundary", "two models", "long model", "many parts", "long head", "json", "text"],
)
def test_an_invalid_form_never_reaches_the_upstream(
    client: httpx2.Client, upstream: ScriptedUpstream, kind: str, body: bytes, status: int, result: str
) -> None:
    answers(upstream, "/audio/transcriptions", json_answer({}))
    answer = client.post("/audio/transcriptions", content=body, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert result in answer.json()["error"]["message"]
    assert upstream.raw_seen == []


def test_a_form_for_a_path_of_json_is_refused(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    answer = client.post("/audio/speech", files={"input": b"Hi"})
    assert answer.status_code == 415
    assert upstream.raw_seen == []


def test_a_form_has_the_limit_of_a_file(tight: ServerProcess, upstream: ScriptedUpstream) -> None:
    answers(upstream, "/audio/transcriptions", json_answer({}))
    url = f"{tight.url}/v1/audio/transcriptions"
    for content in (b"x" * 300_000, iter([b"x" * 300_000])):  # by its announced length, and without one
        body = content if isinstance(content, bytes) else iter([PART % (b"file", next(content))])
        answer = httpx2.post(url, content=body, headers={"content-type": PURE}, timeout=10)
        assert answer.status_code == 413
        message = answer.json()["error"]["message"]
        assert ("has 300000 bytes" in message) is isinstance(content, bytes)
        assert "more than the 200000 " in message
        assert "Send a smaller file or raise MAX_FILE_BYTES." in message
    assert upstream.raw_seen == []


@pytest.mark.parametrize("path", ["/audio/speech", "/audio/transcriptions"])
def test_a_client_that_leaves_closes_the_upstream(client: httpx2.Client, upstream: ScriptedUpstream, path: str) -> None:
    answers(upstream, path, Hang())
    closed = upstream.closed_early
    sent: Any = {"files": {"file": b"x"}} if path in FORM_PATHS else {"json": {"input": "Hi"}}
    with pytest.raises(httpx2.TimeoutException):
        client.post(path, timeout=0.3, **sent)
    upstream.wait_for(lambda up: up.closed_early == closed + 1, 2)


def test_errors_keep_their_status(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    for step, status, result in (
        (Fail(429, {"error": {"message": "slower"}}, {"Retry-After": "7"}), 429, "slower"),
        (Fail(400, {"error": {"message": "no such voice"}}), 400, "no such voice"),
        (Fail(502, "<h1>Bad gateway</h1>"), 502, "Bad gateway"),
        (Fail(404, "404 page not found"), 404, "Set MODEL_URL to a server that does"),
    ):
        answers(upstream, "/audio/speech", step)
        answer = client.post("/audio/speech", json={"input": "Hi"})
        assert answer.status_code == status
        assert result in answer.json()["error"]["message"]
        assert answer.headers.get("retry-after") == ("7" if status == 429 else None)


@pytest.mark.parametrize("path", ["/chat/completions", "/moderations", "/audio/speech", "/embeddings"])
def test_headers_that_cannot_be_sent_are_left_out(client: httpx2.Client, upstream: ScriptedUpstream, path: str) -> None:
    step = Fail(429, {"error": {"message": "m"}}, {"Retry-After": "\u6f22"})
    upstream.default = lambda _: step
    answers(upstream, path, step)
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "input": "Hi", "voice": "alloy"}
    answer = client.post(path, json=body)
    assert (answer.status_code, "retry-after" in answer.headers) == (429, False)


@pytest.mark.parametrize("status", [600, 999])
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_a_status_that_does_not_exist_becomes_502(
    client: httpx2.Client, upstream: ScriptedUpstream, status: int, kind: str
) -> None:
    answers(upstream, "/moderations", Raw([b'{"error": {"message": "m"}}'], status=status, content_type=kind))
    answer = client.post("/moderations", json={"input": "Hi"})
    assert (answer.status_code, "m" in answer.json()["error"]["message"]) == (502, True)


def test_an_answer_has_only_our_request_id(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    answers(upstream, "/moderations", Fail(429, {"error": {"message": "slower"}}, {"x-request-id": "theirs"}))
    (found,) = client.post("/moderations", json={"input": "Hi"}).headers.get_list("x-request-id")
    assert found.startswith("req_")


def test_an_unlisted_path_is_not_found(client: httpx2.Client, upstream: ScriptedUpstream) -> None:
    for path in ("/fine_tuning/jobs", "/audio/voices", "/images", "/completions/x"):
        answers(upstream, path, json_answer({}))
        answer = client.post(path, json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert client.get("/audio/speech").status_code == 405
    assert upstream.raw_seen == []


def test_the_model_selects_the_upstream(tmp_path: Path) -> None:
    def listing(*models: str) -> list[dict[str, Any]]:
        return [{"id": model, "object": "model"} for model in models]

    with (
        ScriptedUpstream(models=listing("chat", "both")) as first,
        ScriptedUpstream(models=listing("tts", "both")) as other,
    ):
        for one in (first, other):
            answers(one, "/audio/speech", json_answer({}))
            answers(one, "/audio/transcriptions", json_answer({}))
        (tmp_path / "threadhold.toml").write_text(
            f"""
            model_url = "{first.url}"
            model_aliases = "tts-1=voices/tts,*=chat"
            default_model = "voices/tts"
            [upstreams.voices]
            url = "{other.url}"
            api_key = "sk-voices"
            [upstreams.claude]
            provider = "anthropic"
            api_key = "sk-none"
            models = ["claude-test"]
            """
        )
        with ServerProcess(tmp_path) as server:
            wait_loaded(server)

            def ask(model: str | None, *, form: bool = False) -> tuple[int, list[Any]]:
                before = [list(one.raw_seen) for one in (first, other)]
                url = f"{server.url}/v1/audio/{'transcriptions' if form else 'speech'}"
                if form:
                    parts: Any = {"file": ("a.mp3", b"x"), "model": (None, model)}
                    answer = httpx2.post(url, files=parts, timeout=10)
                else:
                    answer = httpx2.post(url, json={"model": model} if model else {}, timeout=10)
                fresh = [one.raw_seen[len(old) :] for one, old in zip((first, other), before, strict=True)]
                return answer.status_code, [[dict_of(seen, form=form) for seen in seens] for seens in fresh]

            def dict_of(seen: SeenRaw, *, form: bool) -> str | None:
                if form:
                    return next(value.decode() for name, _, value in fields(seen) if name == "model")
                model: str | None = json.loads(seen.body).get("model")
                return model

            for form in (False, True):
                assert ask("tts-1", form=form) == (200, [[], ["tts"]])
                assert ask("voices/tts-hd", form=form) == (200, [[], ["tts-hd"]])
                assert ask("tts", form=form) == (200, [[], ["tts"]])
                assert ask("unheard-of", form=form) == (200, [["unheard-of"], []])  # `*` stands for chat models
                assert ask("both", form=form) == (200, [["both"], []])  # MODEL_URL's own models keep their names
                assert ask("claude/claude-test", form=form) == (404, [[], []])
            assert ask(None) == (200, [[None], []])
            assert other.raw_seen[-1].headers["authorization"] == "Bearer sk-voices"


def test_without_an_upstream_the_error_names_the_setting(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        wait_loaded(server)
        for path, sent in (
            ("/audio/speech", {"json": {"model": "tts-1"}}),
            ("/images/generations", {"json": {"prompt": "A cat"}}),
            ("/audio/transcriptions", {"files": {"file": b"x"}}),
        ):
            answer = httpx2.post(f"{server.url}/v1{path}", timeout=10, **sent)  # type: ignore[arg-type]
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
            assert f"does not serve `{path}`. Set MODEL_URL" in answer.json()["error"]["message"]


def test_the_official_sdk_works_with_one_base_url(
    server: ServerProcess, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    answers(upstream, "/audio/speech", Raw(SOUND, content_type="audio/mpeg"))
    answers(upstream, "/audio/transcriptions", json_answer({"text": "Hello"}))
    answers(upstream, "/moderations", json_answer({"id": "m", "model": "m", "results": []}))
    answers(upstream, "/images/generations", json_answer({"created": 1, "data": [{"b64_json": "eA=="}]}))
    answers(upstream, "/images/edits", json_answer({"created": 1, "data": []}))
    frame = b'data: {"id": "1", "object": "text_completion", "choices": [{"index": 0, "text": "Hi"}]}\n\n'
    answers(upstream, "/completions", Raw([frame, b"data: [DONE]\n\n"]))
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        with client.audio.speech.with_streaming_response.create(model="tts-1", voice="nova", input="Hi") as spoken:
            assert b"".join(spoken.iter_bytes()) == b"".join(SOUND)
        assert client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"x")).text == "Hello"
        assert client.moderations.create(input="Hi").results == []
        pictures = client.images.generate(prompt="A cat", model="sd")
        assert pictures.data is not None
        assert pictures.data[0].b64_json == "eA=="
        client.images.edit(image=[tmp_path / "a.png", ("b.png", b"b")], prompt="Redder", model="sd")
        assert [name for name, *_ in fields(upstream.raw_seen[-1])] == ["model", "prompt", "image[]", "image[]"]
        chunks = list(client.completions.create(model="gpt-4o", prompt="Hi", stream=True))
        assert [chunk.choices[0].text for chunk in chunks] == ["Hi"]
