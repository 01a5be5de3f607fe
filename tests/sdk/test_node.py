"""Programs written for openai-node run unchanged with three versions of the SDK: 4.36 (v1 header), 4.104 and 7.55."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.conftest import Programs, absent
from tests.sdk.test_python import ENDED, NORMAL
from tests.upstream import Hang, Reply, Step

pytestmark = pytest.mark.timeout(270)

FOLDER = Path(__file__).parent / "node"


class Program:
    """Runs one scenario of a Node program with one SDK."""

    def __init__(self, file: str, package: str, programs: Programs) -> None:
        self.file = file
        self._package = package
        self._programs = programs
        self.puts_calls_together = package != "openai4v1"
        """4.36 drops what comes for a call after its first fragment; its programs take calls from the run."""

    def __call__(self, scenario: str, *replies: Step) -> Any:
        self._programs.script_model(*replies)
        return self._programs.run(["node", FOLDER / self.file, scenario], OPENAI_PACKAGE=self._package)


@pytest.fixture(
    params=[("node4.js", "openai4v1"), ("node4.js", "openai"), ("node7.js", "openai7")], ids=["4.36", "4.104", "7.55"]
)
def program(request: pytest.FixtureRequest, programs: Programs) -> Program:
    file, package = request.param
    if shutil.which("node") is None or not (FOLDER / "node_modules" / package).exists():
        absent("Node with the openai packages (`make sdks`)")
    return Program(file, package, programs)


def test_assistants_threads_and_messages_are_kept_and_paged(program: Program) -> None:
    assert program("objects") == {
        "names": ["Tutor", "Teacher", "Teacher"],
        "paged": True,
        "metadata": [{"seen": "yes"}, {"user": "u1"}],
        "deleted": [True, True],
    }


def test_parallel_function_calls_are_answered_by_polling(program: Program, two_calls: tuple[Step, Step]) -> None:
    assert program("polling", *two_calls) == {
        "waiting": ["requires_action", ["get_weather", "get_weather"]],
        "run": ["completed", None],
        "steps": [["tool_calls", "completed"], ["message_creation", "completed"]],
        "outputs": ["Paris", "Rome"],
        "answer": "Both are warm.",
    }


def test_an_assistant_stream_shows_the_answer_as_it_arrives(program: Program) -> None:
    answer = "Echo: Tell me of Umeå ☃."
    seen = program("streaming")
    events = [event for event in seen.pop("events") if not event.endswith(".delta")]
    assert seen == {
        "written": answer,
        "run": "completed",
        "final": [answer],
        "steps": [["message_creation", "completed"]],
        "fresh": ["thread.created", "completed"],
    }
    assert [event for event in events if event.startswith("thread.")] == [*NORMAL, *ENDED]
    assert [event for event in events if not event.startswith("thread.")] == ["message created", f"text: {answer}"]


def test_reasoning_of_a_model_does_not_disturb_the_program(program: Program) -> None:
    seen = program("streaming", *[Reply(chunks=["<think>let me", " see</think>", "4", "2"])] * 2)
    assert not [event for event in seen["events"] if event.startswith("threadhold.")]
    assert (seen["written"], seen["final"], seen["run"]) == ("42", ["42"], "completed")


def test_function_calls_are_answered_by_streaming(program: Program, two_calls: tuple[Step, Step]) -> None:
    seen = program("functions", *two_calls)
    events = [event for event in seen["events"] if not event.endswith(".delta")]
    assert [seen["waiting"], seen["run"]] == ["requires_action", "completed"]
    assert [event for event in events if event.startswith(("thread.", "--", "text"))] == [
        *NORMAL[:5],
        "thread.run.requires_action",
        "--",
        "thread.run.step.completed",
        "thread.run.queued",
        "thread.run.in_progress",
        *NORMAL[3:],
        "thread.message.completed",
        "text: Both are warm.",
        "thread.run.step.completed",
        "thread.run.completed",
    ]
    calls = [event for event in events if event.startswith("call")]
    if program.puts_calls_together:
        assert calls == [
            "call created: get_weather",
            'call done: {"city":"Paris"}',
            "call created: get_weather",
            'call done: {"city":"Rome"}',
        ]


def test_a_cancelled_run_ends_and_its_upstream_is_closed(program: Program, programs: Programs) -> None:
    closed = programs.upstream.closed_early
    assert program("cancelling", Hang()) == {
        "status": "cancelled",
        "again": ["BadRequestError", 400, "Cannot cancel run with status 'cancelled'."],
    }
    programs.upstream.wait_for(lambda up: up.closed_early == closed + 1)


def test_errors_have_the_sdk_s_classes_and_name_the_parameter(program: Program) -> None:
    errors = [
        [*problem[:2], problem[2] or None]  # Node 4.36 leaves a null parameter undefined
        for problem in program("problems")["errors"]
    ]
    assert errors == [
        ["NotFoundError", 404, None],
        ["NotFoundError", 404, None],
        ["BadRequestError", 400, "colour"],
        ["BadRequestError", 400, "limit"],
    ]


def test_files_are_indexed_in_a_vector_store(program: Program) -> None:
    if not program.puts_calls_together:
        pytest.skip("openai-node 4.36 has no vector stores")
    assert program("files") == {
        "file": ["file", "cats.txt", 10],
        "batch": ["completed", 2, 1],
        "listed": 3,
        "found": "dogs.txt",
        "attached": 1,
        "deleted": [True, True],
    }


def test_an_answer_from_files_has_footnotes(program: Program) -> None:
    if program.file != "node7.js":
        pytest.skip("one version of Node's SDK is enough for behaviour that does not depend on it")
    search = Reply(tool_calls=[("file_search", {"query": "ferry Naxos"})])
    assert program("citations", search, Reply("At seven 【0:0†source】.")) == {
        "calls": ["file_search"],
        "value": "At seven 【0:0†source】.",
        "footnotes": ["ferry.txt"],
        "marked": "【0:0†source】",
    }
