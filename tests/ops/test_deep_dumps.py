"""A dump nested deeper than JSON can be written is refused with the line, and nothing of it is imported."""

from pathlib import Path

import pytest

from tests.ops.command import command

OK = '{"id":"thread_ok","object":"thread","created_at":1,"messages":[{"role":"user","content":"hi"}]}\n'


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def assistant(fields: str) -> str:
    return '{"id":"asst_1","object":"assistant","model":"m","created_at":1,' + fields + "}\n"


def thread(fields: str) -> str:
    return '{"id":"thread_a","object":"thread","created_at":1,' + fields + "}\n"


def run(fields: str) -> str:
    return thread(
        '"runs":[{"id":"run_1","object":"thread.run","status":"completed","assistant_id":"asst_1","created_at":1,'
        + fields
        + "}]"
    )


def function(levels: int) -> str:
    return '"tools":[{"type":"function","function":{"name":"f","parameters":' + nested(levels) + "}}]"


def step(levels: int) -> str:
    call = '{"id":"c","type":"file_search","file_search":' + nested(levels) + "}"
    return (
        '{"id":"step_1","object":"thread.run.step","thread_id":"thread_a","run_id":"run_1","assistant_id":"asst_1",'
        '"status":"completed","type":"tool_calls","created_at":1,"step_details":{"type":"tool_calls","tool_calls":['
        + call
        + "]}}"
    )


def annotated(levels: int) -> str:
    note = '{"type":"file_citation","text":"x","start_index":0,"end_index":1,"more":' + nested(levels) + "}"
    content = '[{"type":"text","text":{"value":"x","annotations":[' + note + "]}}]"
    return thread('"messages":[{"role":"user","content":' + content + "}]")


ENTRIES = {
    "an assistant's tools": assistant(function(900)),
    "a run's tools": run(function(900)),
    "a step": step(900) + "\n",
    "a run's step": run('"steps":[' + step(700) + "]"),
    "an annotation": annotated(900),
    "details": thread(
        '"messages":[{"role":"user","content":"x","status":"incomplete","incomplete_details":' + nested(900) + "}]"
    ),
    "a response format": assistant(
        '"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":' + nested(900) + "}}"
    ),
    "just too deep": annotated(250),
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_nested_too_deeply_is_named_by_its_line(entry: str, tmp_path: Path) -> None:
    done = command(tmp_path, "import", "-", given=OK + entry)
    assert done.returncode == 1
    assert done.stderr.startswith("threadhold: line 2: This is nested more than 240 levels deep.\n")
    assert "nothing was imported" in done.stderr
    assert not (tmp_path / "threadhold.db").exists()


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_a_document_nested_too_deeply_is_named_by_its_entry(entry: str, tmp_path: Path) -> None:
    document = "[\n" + OK.strip() + ",\n" + entry.strip() + "\n]"
    done = command(tmp_path, "import", "-", given=document)
    assert done.returncode == 1
    assert done.stderr == "threadhold: `-`, entry 2: This is nested more than 240 levels deep.\n"


@pytest.mark.parametrize("levels", [100, 220])
def test_entries_nested_less_deeply_are_imported(levels: int, tmp_path: Path) -> None:
    done = command(tmp_path, "import", "-", given=OK + annotated(levels))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["expires_at", "started_at", "cancelled_at", "failed_at", "completed_at"])
def test_a_time_out_of_range_is_named_by_its_line(name: str, tmp_path: Path) -> None:
    done = command(tmp_path, "import", "-", given=OK + run(f'"{name}":9223372036854775808'))
    assert done.returncode == 1
    assert f"threadhold: line 2: Invalid '{name}'" in done.stderr
