"""The walkthroughs that users follow, unchanged: curl commands in bash, snippets pasted into a node REPL.

Only what a user replaces is replaced: the server's address (a free port here), ids, and the address of the API that an
action calls. The snippets name their runs as openai-node 4 does, so they run under 4.104.
"""

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.process import ServerProcess
from tests.sdk.conftest import absent
from tests.upstream import Reply, ScriptedUpstream

pytestmark = pytest.mark.timeout(270)

HERE = Path(__file__).parent
SEEDS = HERE / "seeds"
ANSWER_S = 10.0
_OBJECT = re.compile(r"^(?:(?:> |\.\.\. ?|\| ?)*)(\{\n  \".*?^\})$", re.DOTALL | re.MULTILINE)


class Repl:
    """A node REPL that snippets are pasted into; `paste` returns the JSON that the snippet printed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self._said = ""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while text := self._stdout.read(1):
            with self._changed:
                self._said += text
                self._changed.notify_all()

    def paste(self, snippet: str) -> Any:
        with self._changed:
            start = len(self._said)
            self._stdin.write(snippet + "\n")
            self._stdin.flush()
            if "console.log" not in snippet:
                return None
            found = self._changed.wait_for(lambda: _OBJECT.search(self._said[start:]), ANSWER_S)
            assert found, self._said[start:]
            return json.loads(found.group(1))

    def close(self) -> None:
        self._stdin.close()
        self._reader.join(ANSWER_S)
        self._stdout.close()

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Self]:
        if shutil.which("node") is None or not (HERE / "node/node_modules/openai").exists():
            absent("Node with the openai packages (`make sdks`)")
        with subprocess.Popen(
            ["node", "-i"],
            cwd=HERE / "node",
            env={**os.environ, "NODE_NO_READLINE": "1", "NODE_REPL_HISTORY": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            repl = cls(process)
            try:
                yield repl
            finally:
                repl.close()
                process.wait(ANSWER_S)


def snippets(name: str, **replaced: str) -> list[str]:
    """Return the walkthrough's snippets in order, with the reader's values filled in."""
    text = (SEEDS / name).read_text()
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return re.split(r"^// ---\n", text, flags=re.MULTILINE)


@contextmanager
def wikipedia() -> Iterator[tuple[str, list[str]]]:
    """A substitute for the API of walkthrough 000; yields its address and the requests it received."""
    seen: list[str] = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            body = json.dumps({"query": {"random": [{"id": 7, "ns": 0, "title": "Umeå"}]}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/w", seen
        finally:
            server.shutdown()
            thread.join()


def until(look: Callable[[], Any], status: str) -> Any:
    """Repeat the status command until the run has that status, as the walkthroughs describe."""
    limit = time.monotonic() + ANSWER_S
    while (run := look())["status"] != status:
        assert run["status"] in ("queued", "in_progress"), run
        assert time.monotonic() < limit, run
        time.sleep(0.05)
    return run


def test_walkthrough_000_lets_the_server_call_an_api(tmp_path: Path) -> None:
    with (
        ScriptedUpstream() as upstream,
        wikipedia() as (api, seen),
        ServerProcess(
            tmp_path, MODEL_URL=f"{upstream.url}/chat/completions", ACTIONS_ALLOW_HOSTS="127.0.0.1"
        ) as server,
        Repl.opened() as repl,
    ):
        upstream.script(Reply(tool_calls=[("getRandomPages", {"rnlimit": 1})]), Reply("Your page is Umeå."))
        pasted = snippets("000.js", **{"http://localhost:3000": server.url, "https://en.wikipedia.org/w": api})
        _, _, assistant, thread, message, run, status, messages = pasted
        for snippet in pasted[:2]:
            repl.paste(snippet)
        made = repl.paste(assistant)
        assert made["object"] == "assistant"
        assert made["tools"][0]["type"] == "action"
        assert "getRandomPages" in made["tools"][0]["data"]["openapi_spec"]
        assert repl.paste(thread)["object"] == "thread"
        assert repl.paste(message)["content"][0]["text"]["value"] == "Give me a page"
        assert repl.paste(run)["status"] == "queued"
        ended = until(lambda: repl.paste(status), "completed")
        assert ended["assistant_id"] == made["id"]
        answer, question = (part["content"][0]["text"]["value"] for part in repl.paste(messages)["data"])
        assert [answer, question] == ["Your page is Umeå.", "Give me a page"]
    assert len(seen) == 1
    for sent in ("action=query", "format=json", "list=random", "rnlimit=1"):
        assert sent in seen[0]
    result = upstream.requests[1].body["messages"][-1]
    assert result["role"] == "tool"
    assert "Umeå" in json.loads(result["content"])["query"]["random"][0]["title"]


def test_walkthrough_001_solves_an_equation_with_curl(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, ServerProcess(tmp_path, MODEL_URL=upstream.url) as server:
        upstream.script(Reply("x = 1"))
        seen = follow_001(server.url)
    assert seen["ended"]["status"] == "completed"
    assert [message["content"][0]["text"]["value"] for message in seen["messages"]["data"]] == [
        "x = 1",
        "I need to solve the equation 3x + 11 = 14. Can you help me?",
    ]
    assert upstream.requests[0].body["messages"][0]["content"] == "Please solve the equation."


def follow_001(url: str, limit_s: int = 30) -> dict[str, Any]:
    """Run the commands of walkthrough 001 against `url`; checks the protocol, returns what each step printed."""
    for tool in ("bash", "curl", "jq"):
        if shutil.which(tool) is None:
            absent(tool)
    script = (SEEDS / "001.sh").read_text().replace("http://localhost:3000", url)
    done = subprocess.run(
        ["bash", "-eu", "-c", script],
        env={**os.environ, "LIMIT_S": str(limit_s)},
        capture_output=True,
        text=True,
        timeout=limit_s + 30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = ("assistant", "thread", "message", "run", "ended", "messages")
    # The walkthrough has `echo $response` without quotes: JSON survives it.
    seen = dict(zip(names, map(json.loads, done.stdout.splitlines()), strict=True))
    kinds = [seen[name]["object"] for name in names]
    assert kinds == ["assistant", "thread", "thread.message", "thread.run", "thread.run", "list"]
    assert seen["run"]["status"] == "queued"
    assert seen["run"]["instructions"] == "Please solve the equation."
    assert [message["role"] for message in seen["messages"]["data"]] == ["assistant", "user"]
    assert seen["messages"]["data"][0]["run_id"] == seen["run"]["id"]
    return seen


def test_walkthrough_002_calls_a_function(tmp_path: Path) -> None:
    with (
        ScriptedUpstream() as upstream,
        ServerProcess(tmp_path, MODEL_URL=upstream.url) as server,
        Repl.opened() as repl,
    ):
        place = {"location": "San Francisco, CA", "unit": "imperial"}
        upstream.script(Reply(tool_calls=[("getCurrentWeather", place)]), Reply("It is 68 degrees Fahrenheit."))
        open_, assistant, thread, message, run, status, submit, messages = snippets(
            "002.js", **{"http://localhost:3000": server.url}
        )
        repl.paste(open_)
        ids: dict[str, str] = {}

        def filled(snippet: str) -> Any:
            for name, value in ids.items():
                snippet = snippet.replace(name, value)
            return repl.paste(snippet)

        made = filled(assistant)
        assert made["tools"][0]["function"]["parameters"]["required"] == ["location"]
        ids["75ce7666-7560-4bb2-8358-48107d94183a"] = made["id"]
        ids["f74681b8-2371-4db1-946f-3efb070f0b19"] = filled(thread)["id"]
        assert filled(message)["role"] == "user"
        ids["3933cbe4-5c26-4f93-b2d8-f03dabc055f2"] = filled(run)["id"]
        waiting = until(lambda: filled(status), "requires_action")
        (call,) = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
        assert [call["function"]["name"], json.loads(call["function"]["arguments"])] == ["getCurrentWeather", place]
        ids["9cb246b2-061c-46a4-aa34-80e7587c81c4"] = call["id"]
        submitted = filled(submit)
        assert [submitted["status"], submitted["required_action"]] == ["queued", None]
        until(lambda: filled(status), "completed")
        answer, _ = filled(messages)["data"]
        assert answer["content"][0]["text"]["value"] == "It is 68 degrees Fahrenheit."
    result = upstream.requests[1].body["messages"][-1]
    assert [result["role"], json.loads(result["content"])] == ["tool", {"temperature": 68, "unit": "F"}]
