"""Programs written for openai-python run unchanged with three versions of the SDK: 1.20 (v1 header), 1.51 and the
newest."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.process import ROOT
from tests.sdk.conftest import Programs, absent
from tests.upstream import Hang, Reply, Step

pytestmark = pytest.mark.timeout(270)

NORMAL = [
    "thread.run.created",
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.message.created",
    "thread.message.in_progress",
]
ENDED = ["thread.message.completed", "thread.run.step.completed", "thread.run.completed"]


class Program:
    """Runs a program of `programs/` with one SDK."""

    def __init__(self, python: Path, programs: Programs) -> None:
        self._python = python
        self._programs = programs

    def __call__(self, name: str, *replies: Step) -> Any:
        self._programs.script_model(*replies)
        return self._programs.run([self._python, Path(__file__).parent / "programs" / f"{name}.py"])


@pytest.fixture(params=["1.20", pytest.param("1.51", marks=pytest.mark.soak), "newest"])
def program(request: pytest.FixtureRequest, programs: Programs) -> Program:
    return under(request.param, programs)


def test_assistants_are_created_read_changed_listed_and_deleted(program: Program) -> None:
    seen = program("assistants")
    assert seen.pop("id").startswith("asst_")
    assert seen == {
        "same": True,
        "object": "assistant",
        "name": "Tutor",
        "instructions": "You are a personal math tutor.",
        "metadata": {"team": "b"},
        "tools": ["code_interpreter"],
        "listed": True,
        "oldest_first": True,
        "deleted": [True, "assistant.deleted"],
        "left": True,
    }


def test_a_thread_is_paged_to_its_end_without_repetitions(program: Program) -> None:
    assert program("threads") == {
        "thread": ["thread", {"user": "u1"}, {"user": "u2"}],
        "newest_first": True,
        "oldest_first": True,
        "page": True,
        "before": True,
        "noted": [{"seen": "yes"}, {"seen": "yes"}],
        "text": "Message 0",
        "role": "user",
        "deleted": [True, "thread.deleted"],
    }


def test_a_run_is_polled_to_its_end(program: Program) -> None:
    assert program("polling", Reply("Two."), Reply("Still two.")) == {
        "run": ["thread.run", "completed", "gpt-4", "Be short.\n\nBe kind."],
        "times": [True, True, None],
        "usage": True,
        "texts": ["Two.", "What is 1 + 1?"],
        "by": [["assistant", True, True], ["user", False, False]],
        "step": ["message_creation", "completed", True],
        "noted": {"rated": "5"},
        "runs": True,
        "both": ["completed", "Still two."],
    }


def test_an_event_handler_sees_the_answer_as_it_arrives(program: Program) -> None:
    answer = "Echo: Tell me of Umeå ☃."
    seen = program("streaming")
    deltas = seen["events"].count("thread.message.delta")
    assert deltas >= 1
    assert seen == {
        "events": [*NORMAL, *["thread.message.delta"] * deltas, *ENDED],
        "seen": [
            "step created: message_creation",
            "message created",
            "text created",
            f"text done: {answer}",
            "message done: completed",
            "step done: completed",
            "end",
        ],
        "text": answer,
        "run": ["completed", True],
        "final": [answer],
        "steps": ["message_creation"],
        "fresh": ["Echo: Once more.", "thread.created", "completed"],
        "raw": ["thread.created", "thread.run.completed"],
    }


def test_reasoning_of_a_model_does_not_disturb_the_program(program: Program) -> None:
    thinking = Reply(chunks=["<think>let me", " see</think>", "4", "2"])
    assert program("reasoning", *[thinking] * 3) == {
        "shown": "42",
        "final": "42",
        "raw": "42",
        "later": "42",
        "run": "completed",
    }


def test_parallel_calls_are_answered_by_polling_and_by_streaming(
    program: Program, two_calls: tuple[Step, Step]
) -> None:
    oslo = Reply(tool_calls=[("get_weather", {"city": "Oslo"}, "call_c")])
    seen = program("functions", *two_calls, oslo, Reply("Oslo is cold."))
    events = [event for event in seen.pop("events") if not event.endswith(".delta")]
    assert seen == {
        "waiting": ["requires_action", ["get_weather", "get_weather"]],
        "run": ["completed", None],
        "steps": [["tool_calls", "completed"], ["message_creation", "completed"]],
        "outputs": ["Paris", "Rome"],
        "answer": "Both are warm.",
        "last": "completed",
    }
    assert events == [
        *NORMAL[:5],
        "call created: get_weather",
        "thread.run.requires_action",
        "thread.run.step.completed",
        "thread.run.queued",
        "thread.run.in_progress",
        *NORMAL[3:],
        "thread.message.completed",
        "text: Oslo is cold.",
        "thread.run.step.completed",
        "thread.run.completed",
        'call done: {"city":"Oslo"}',  # after the program's own answer to the event that ended the stream
    ]


def test_a_cancelled_run_ends_and_its_upstream_is_closed(program: Program, programs: Programs) -> None:
    closed = programs.upstream.closed_early
    assert program("cancelling", Hang()) == {
        "status": "cancelled",
        "cancelled_at": True,
        "refused": [
            "Can't add messages to THREAD while a run RUN is active.",
            "Thread THREAD already has an active run RUN.",
            "Cannot cancel run with status 'cancelled'.",
        ],
    }
    programs.upstream.wait_for(lambda up: up.closed_early == closed + 1)


def test_errors_have_the_sdk_s_classes_and_name_the_parameter(program: Program) -> None:
    missing = ["NotFoundError", 404, "invalid_request_error", None]
    wrong = ["BadRequestError", 400, "invalid_request_error"]
    assert program("problems")["errors"] == [
        missing,
        missing,
        missing,
        missing,
        missing,
        [*wrong, "colour"],
        [*wrong, "tools[0].type"],
        [*wrong, "name"],
        [*wrong, "limit"],
        [*wrong, "role"],
        missing,
    ]


def test_a_model_that_fails_fails_the_run_and_ends_the_stream(program: Program) -> None:
    seen = program("interrupted", Reply("one two three four", cut_after=3))
    assert seen == {
        "events": [
            "thread.message.delta",
            "thread.message.incomplete",
            "thread.run.step.failed",
            "thread.run.failed",
        ],
        "raised": None,
        "run": "failed",
        "code": "server_error",
    }


def under(version: str, programs: Programs) -> Program:
    """Return one SDK by its version."""
    python = Path(sys.executable) if version == "newest" else ROOT / f".venv-openai-{version}/bin/python"
    if not python.exists():
        absent(f"openai-python {version} (`make sdks`)")
    return Program(python, programs)


@pytest.mark.parametrize("version", [pytest.param("1.51", marks=pytest.mark.soak), "newest"])
def test_files_are_indexed_in_a_vector_store(version: str, programs: Programs) -> None:
    assert under(version, programs)("files") == {
        "file": ["file", "cats.txt", 32, "assistants"],
        "batch": ["completed", 2, 1],
        "listed": True,
        "failed": ["unsupported_file"],
        "one": "completed",
        "store": ["Menagerie", 2, 3],
        "found": "dogs.md",
        "removed": True,
        "assistant": True,
        "attached": 1,
        "files": [5, True],
        "content": 4,
        "deleted": ["vector_store.deleted", True],
    }


def test_files_belong_to_assistants_and_messages_in_v1(programs: Programs) -> None:
    assert under("1.20", programs)("files_v1") == {
        "made": True,
        "added": ["assistant.file", True],
        "listed": True,
        "read": True,
        "removed": True,
        "message": True,
        "attached": True,
    }


def test_a_program_for_v1_sees_retrieval(programs: Programs) -> None:
    search = Reply(tool_calls=[("file_search", {"query": "ferry Naxos"})])
    assert under("1.20", programs)("retrieval_v1", search, Reply("At seven 【0:0†source】.")) == {
        "tools": [["retrieval"], ["retrieval"]],
        "files": [True, True, True],
        "calls": [["retrieval"], "retrieval", "retrieval"],
        "cited": [[""], "", True],
    }


@pytest.mark.parametrize("version", [pytest.param("1.51", marks=pytest.mark.soak), "newest"])
def test_an_answer_from_files_has_footnotes(version: str, programs: Programs) -> None:
    search = Reply(tool_calls=[("file_search", {"query": "ferry Naxos"})])
    assert under(version, programs)("citations", search, Reply("At seven 【0:0†source】.")) == {
        "indexed": 2,
        "calls": ["file_search"],
        "streamed": [[0, "【0:0†source】"]],
        "text": "At seven 【0:0†source】.",
        "footnotes": ["ferry.txt"],
        "best": ["ferry.txt", "The ferry to Naxos leaves at seven."],
        "plain": None,
    }
