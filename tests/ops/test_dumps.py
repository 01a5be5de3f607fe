"""Export and import: conversations move from one server to another, and listings of OpenAI are imported."""

import json
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.ops.command import command, start_command
from tests.ops.conftest import data, talk, thread_content
from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream


def lines(*objects: Any) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


def listed_message(thread: str, number: int, text: str, *, at: int, role: str = "user") -> dict[str, Any]:
    """Return a message as OpenAI lists it."""
    return {
        "id": f"msg_{thread}{number}",
        "object": "thread.message",
        "created_at": at,
        "thread_id": f"thread_{thread}",
        "role": role,
        "content": [{"type": "text", "text": {"value": text, "annotations": []}}],
        "assistant_id": "asst_old" if role == "assistant" else None,
        "run_id": f"run_{thread}" if role == "assistant" else None,
        "attachments": [],
        "metadata": {},
    }


@contextmanager
def served(folder: Path, upstream: ScriptedUpstream, **settings: str) -> Iterator[ServerProcess]:
    with ServerProcess(folder, MODEL_URL=upstream.url, **settings) as process:
        yield process


def texts(server: ServerProcess, thread: str) -> list[str]:
    """Return the texts of a thread's messages, oldest first."""
    found = server.request("GET", f"/threads/{thread}/messages?order=asc&limit=100")["data"]
    return [part["text"]["value"] for message in found for part in message["content"]]


def rows(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "threadhold.db")) as database:
        return database.execute(sql).fetchall()


def test_threads_exported_from_a_running_server_are_imported_unchanged(
    server: ServerProcess, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assistant = server.request(
        "POST", "/assistants", {"model": "m", "temperature": 0.5, "tools": [tool], "metadata": {"a": "b"}}
    )
    threads = [talk(server, "Hello", "Again"), talk(server, "Other")]
    expected = [thread_content(server, thread) for thread in threads]
    with start_command(data(server), "export", tmp_path / "dump.jsonl") as process:
        assert process.wait(50) == 0

    folder = tmp_path / "data"
    folder.mkdir()
    done = command(folder, "import", tmp_path / "dump.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    with served(folder, upstream) as other:
        assert [thread_content(other, thread) for thread in threads] == expected
        assert other.request("GET", f"/assistants/{assistant['id']}") == assistant
        first = "/threads?order=asc&limit=100"
        assert other.request("GET", first) == server.request("GET", first)
        body = {"assistant_id": assistant["id"], "additional_messages": [{"role": "user", "content": "And now?"}]}
        run = other.request("POST", f"/threads/{threads[0]}/runs", body)
        httpx2.get(f"{other.url}/threads/{threads[0]}/runs/{run['id']}/events", timeout=90).read()
        assert texts(other, threads[0])[-2:] == ["And now?", "Echo: And now?"]
    assert upstream.requests[-1].body["temperature"] == 0.5


def test_items_are_exported_and_imported_at_their_positions(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Reply("Let me see.", tool_calls=[("f", {"a": 1})]), Reply("Two."))
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    asked = {"thread": {"messages": [{"role": "user", "content": "One?"}]}}
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    with served(folders[0], upstream) as server:
        assistant = server.request("POST", "/assistants", {"model": "m", "tools": [tool]})["id"]
        run = server.request("POST", "/threads/runs", {"assistant_id": assistant, **asked})
        path = f"/threads/{run['thread_id']}/runs/{run['id']}"
        httpx2.get(f"{server.url}{path}/events", timeout=90).read()
        waiting = server.request("GET", path)["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = [{"tool_call_id": call["id"], "output": "2"} for call in waiting]
        server.request("POST", f"{path}/submit_tool_outputs", {"tool_outputs": outputs})
        httpx2.get(f"{server.url}{path}/events", timeout=90).read()
    assert command(folders[0], "export", tmp_path / "dump.jsonl").returncode == 0
    thread = json.loads((tmp_path / "dump.jsonl").read_text().splitlines()[1])
    assert [item["type"] for item in thread["items"]] == ["function_call", "function_call_output"]
    assert {item["after"] for item in thread["items"]} == {thread["messages"][1]["id"]}
    assert command(folders[1], "import", tmp_path / "dump.jsonl").returncode == 0
    sql = "SELECT id, kind, run_id, body FROM entries ORDER BY seq"
    assert rows(folders[1], sql) == rows(folders[0], sql)


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"id": "x", "type": "computer_call"}, "`type` is 'computer_call'"),
        ({"id": "a/b", "type": "reasoning", "content": []}, "'id'"),
        ({"id": "fc_1", "type": "function_call", "name": "f", "arguments": "{}"}, "'call_id'"),
    ],
    ids=["unknown type", "id that is no path", "missing field"],
)
def test_an_invalid_item_refuses_its_thread(item: Any, why: str, tmp_path: Path) -> None:
    thread = {"id": "thread_a", "object": "thread", "messages": [listed_message("a", 1, "Hi", at=1)], "items": [item]}
    (tmp_path / "dump.jsonl").write_text(lines(thread))
    done = command(tmp_path, "import", tmp_path / "dump.jsonl")
    assert done.returncode == 1
    assert why in done.stderr


def test_an_export_reports_what_it_leaves_out(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with served(tmp_path, upstream, API_KEYS="ann=key-ann,bob=key-bob") as server:
        for key in ("ann", "bob"):
            here = httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer key-{key}"}, timeout=30)
            with here:
                here.post("/threads", json={})
                for number in range(2 if key == "ann" else 0):
                    sent = {"file": (f"{number}.txt", b"Cats purr."), "purpose": (None, "assistants")}
                    assert here.post("/files", files=sent).status_code == 200
                    assert here.post("/vector_stores", json={}).status_code == 200
        expected = command(tmp_path, "export", "--owner", "ann").stderr
        assert "left out: 2 files and 2 vector stores of ann; only `threadhold backup` copies these" in expected
        assert "left out" not in command(tmp_path, "export", "--owner", "bob").stderr


def test_openai_s_listings_are_imported_with_ids_times_and_order(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A thread with a listing as it was answered, newest first; messages alone, in pages; and a plain conversation."""
    page = {
        "object": "list",
        "data": [
            listed_message("a", 3, "third", at=1700000001),
            listed_message("a", 2, "second", at=1700000000, role="assistant"),
            listed_message("a", 1, "first", at=1700000000),
        ],
        "first_id": "msg_a3",
        "last_id": "msg_a1",
        "has_more": False,
    }
    dump = lines(
        {"id": "thread_a", "object": "thread", "created_at": 1699999999, "metadata": {"k": "v"}, "messages": page},
        listed_message("b", 2, "two", at=1600000060),
        {
            "object": "list",
            "data": [listed_message("b", 1, "one", at=1600000000), listed_message("b", 2, "two", at=1600000060)],
        },
        {"messages": [{"role": "user", "content": "Plain?"}, {"role": "assistant", "content": "Plain."}]},
        {"id": "asst_old", "object": "assistant", "created_at": 1500000000, "model": "gpt-4o", "temperature": 1.0},
    )
    done = command(tmp_path, "import", "-", given=dump)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 threads with 7 messages and 0 runs, and 1 assistants" in done.stdout
    with served(tmp_path, upstream) as server:
        assert texts(server, "thread_a") == ["first", "second", "third"]
        thread = server.request("GET", "/threads/thread_a")
        assert (thread["created_at"], thread["metadata"]) == (1699999999, {"k": "v"})
        message = server.request("GET", "/threads/thread_a/messages/msg_a2")
        assert {name: message[name] for name in ("created_at", "role", "run_id", "status", "completed_at")} == {
            "created_at": 1700000000,
            "role": "assistant",
            "run_id": "run_a",
            "status": "completed",
            "completed_at": 1700000000,
        }
        assert texts(server, "thread_b") == ["one", "two"]
        assert server.request("GET", "/threads/thread_b")["created_at"] == 1600000000
        newest = server.request("GET", "/threads")["data"][0]["id"]
        assert texts(server, newest) == ["Plain?", "Plain."]
        assert server.request("GET", "/assistants/asst_old")["created_at"] == 1500000000
        body = {"assistant_id": "asst_old", "stream": True}
        answer = httpx2.post(f"{server.url}/threads/thread_a/runs", json=body, timeout=90)
        assert "thread.run.completed" in answer.text
        assert texts(server, "thread_a")[-1] == "Echo: third"
    assert "temperature" not in upstream.requests[-1].body


@pytest.mark.parametrize(
    "dump",
    [
        json.dumps([{"id": "thread_x", "messages": [{"role": "user", "content": "é 🧵"}]}]),
        json.dumps([{"id": "thread_x", "messages": [{"role": "user", "content": "é 🧵"}]}], indent=2),
        json.dumps({"id": "thread_x", "messages": [{"role": "user", "content": "é 🧵"}]}, indent="\t"),
        json.dumps({"object": "list", "data": [{"id": "thread_x", "messages": [{"role": "user", "content": "é 🧵"}]}]}),
        '\n\n{"id": "thread_x", "messages": [{"role": "user", "content": "é 🧵"}]}',
    ],
    ids=["array", "array in lines", "object in lines", "listing", "no last line end"],
)
def test_a_dump_can_be_one_document_or_lines(dump: str, tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(dump)
    done = command(tmp_path, "import", "dump")
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(body)["content"] for (body,) in rows(tmp_path, "SELECT body FROM messages")] == [
        [{"type": "text", "text": {"value": "é 🧵", "annotations": []}}]
    ]


@pytest.mark.parametrize("form", ["as saved", "a line each", "array", "listing"])
def test_the_page_s_export_is_a_thread_with_its_messages(form: str, server: ServerProcess, tmp_path: Path) -> None:
    """Its form is that of `tests/web/test_taking_out.py`."""
    threads = [talk(server, "Hello", "é 🧵")] + ([] if form == "as saved" else [talk(server, "Other")])
    expected = [thread_content(server, thread) for thread in threads]
    saved = [{name: each[name] for name in ("thread", "messages", "runs")} for each in expected]
    dump = {
        "as saved": json.dumps(saved[0], indent=2, ensure_ascii=False),
        "a line each": lines(*saved),
        "array": json.dumps(saved, indent=2),
        "listing": lines({"object": "list", "data": saved}),
    }[form]
    done = command(tmp_path, "import", "-", given=dump)
    assert (done.returncode, done.stderr) == (0, "")
    kept = [json.loads(line) for line in command(tmp_path, "export").stdout.splitlines()]
    for each in kept:
        assert [run.pop("steps") for run in each["runs"]] == [[]]
    assert kept == [{**each["thread"], "messages": each["messages"], "runs": each["runs"]} for each in expected]


ONE = {"id": "thread_x", "messages": [{"role": "user", "content": "é 🧵"}]}
TWO = lines(ONE) + "\ufeff" + lines({**ONE, "id": "thread_y"})


@pytest.mark.parametrize(
    ("dump", "count"),
    [(lines(ONE), 1), (json.dumps([ONE]), 1), (json.dumps(ONE, indent=2), 1), (TWO, 2), ("\n\ufeff\n" + lines(ONE), 1)],
    ids=["lines", "array", "document", "joined files", "alone on a line"],
)
def test_a_byte_order_mark_is_ignored(dump: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "dump").write_text("\ufeff" + dump, encoding="utf-8")
    done = command(tmp_path, "import", "dump")
    assert (done.returncode, done.stderr) == (0, "")
    assert [
        json.loads(body)["content"][0]["text"]["value"] for (body,) in rows(tmp_path, "SELECT body FROM messages")
    ] == ["é 🧵"] * count


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("dump", [lines(ONE), json.dumps([ONE], indent=2)], ids=["lines", "document"])
def test_utf_16_is_refused_with_a_conversion_command(dump: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(dump, encoding=encoding)
    done = command(tmp_path, "import", "dump")
    assert done.returncode == 1
    assert done.stderr.startswith("threadhold: `dump` is UTF-16 text")
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]
    expected = re.search(r"iconv -f (\S+) -t UTF-8", done.stderr)
    assert expected
    (tmp_path / "new").write_bytes((tmp_path / "dump").read_bytes().decode(expected[1]).encode())
    assert command(tmp_path, "import", "new").returncode == 0


@pytest.mark.parametrize("option", [[], ["--dry-run"], ["--skip-refused"]], ids=["plain", "dry run", "skip refused"])
@pytest.mark.parametrize(
    "dump",
    ["", "\n \n", "\ufeff", "[]", '{"data": [],\n"object": "list"}', lines({"object": "list", "data": []})],
    ids=["empty", "blank", "byte order mark", "array", "listing", "listing in a line"],
)
def test_a_file_with_nothing_to_import_is_reported(dump: str, option: list[str], tmp_path: Path) -> None:
    done = command(tmp_path, "import", "-", *option, given=dump)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("threadhold: there is nothing to import in `-`: it has no thread, ")
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_entries_are_all_refused_imports_nothing(tmp_path: Path) -> None:
    done = command(tmp_path, "import", "-", "--skip-refused", given=lines({"object": "vector_store"}))
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing to import in `-`: every entry was refused" in done.stderr


def test_an_incomplete_listing_is_reported_and_imported(tmp_path: Path) -> None:
    """Except one whose last page is in the file, and one of a thread that is left out."""

    def page(*objects: Any, more: bool = True) -> dict[str, Any]:
        return {"object": "list", "data": objects, "has_more": more}

    runs = [{"id": f"run_{n}", "status": "completed", "assistant_id": "asst_a"} for n in range(2)]
    dump = lines(
        {
            "id": "thread_a",
            "messages": page(listed_message("a", 1, "x", at=1)),
            "runs": [runs[0], {**runs[1], "steps": page()}],
        },
        page(listed_message("b", 1, "x", at=1)),
        page(listed_message("c", 2, "x", at=2)),
        page(listed_message("c", 1, "x", at=1), more=False),
        page({"id": "thread_d", "messages": page()}, {"id": "thread_e", "messages": [], "runs": page()}),
        {"id": "thread_f", "messages": page({"role": "user", "content": 5})},
        {"thread": {"id": "thread_g"}, "messages": page(more=False)},
    )
    places = ["1: messages", "1: runs[1].steps", "2", "5", "5: data[0].messages", "5: data[1].runs"]
    expected = "`has_more` is true, but the following pages are missing"
    for option, summary in ([], "imported 6 threads"), (["--dry-run"], "would import 6 threads"):
        done = command(tmp_path, "import", "-", "--skip-refused", *option, given=dump)
        refusal, *warnings = done.stderr.splitlines()
        assert (done.returncode, refusal.startswith("threadhold: line 6: Invalid type")) == (0, True)
        assert warnings == [f"threadhold: line {line_number}: {expected}" for line_number in places]
        assert done.stdout.startswith(summary)
        assert done.stdout.endswith("; 6 lists are incomplete\n")
    assert rows(tmp_path, "SELECT COUNT(*) FROM messages") == [(4,)]


def test_a_file_that_is_one_page_is_reported(tmp_path: Path) -> None:
    listing = {"data": [listed_message("a", 1, "x", at=1)], "has_more": True}
    done = command(tmp_path, "import", "-", given=json.dumps(listing, indent=2))
    assert (done.returncode, done.stderr.startswith("threadhold: the file: `has_more` is true")) == (0, True)
    assert "1 lists are incomplete" in done.stdout


BAD = [
    ('{"id": "thread_a", "messages": [{"role": "us', "line 2: This is not JSON"),
    (lines({"object": "vector_store", "id": "vs_1"}), "line 2: `object` is 'vector_store'"),
    (lines({"id": "thread_x", "messages": [{"role": "system", "content": "x"}]}), "line 2: Invalid value: 'system'"),
    (lines({"id": "x", "messages": []}), "line 2: Invalid 'id': 'x'"),
    (lines({"role": "user", "content": "x"}), "line 2: Missing required parameter: 'thread_id'"),
    (lines({"id": "thread_good", "messages": []}), "line 2: The thread 'thread_good' is in this file twice"),
    (lines({"id": "thread_x", "created_at": "2024", "messages": []}), "line 2: Invalid type for 'created_at'"),
    (
        lines({"id": "thread_x", "messages": [listed_message("other", 1, "x", at=1)]}),
        "line 2: 'messages[0].thread_id' is 'thread_other'",
    ),
    (lines({"id": "asst_x", "object": "assistant"}), "line 2: Missing required parameter: 'model'"),
    ("[1]\n", "line 2: This is not a JSON object"),
    (
        lines({"id": "thread_x", "messages": [listed_message("x", 1, "x", at=1), {"role": "user", "content": 5}]}),
        "line 2: messages[1]: Invalid type for 'content'",
    ),
    (
        lines({"id": "thread_x", "runs": [{"id": "run_1", "status": "completed"}, {}], "messages": []}),
        "line 2: runs[0]: Missing required parameter: 'assistant_id'",
    ),
]


@pytest.mark.parametrize(("bad", "why"), BAD, ids=[why[8:40] for _, why in BAD])
def test_an_invalid_entry_is_reported_and_nothing_written(bad: str, why: str, tmp_path: Path) -> None:
    good = lines({"id": "thread_good", "messages": [{"role": "user", "content": "x"}]})
    done = command(tmp_path, "import", "-", given=good + bad)
    assert done.returncode == 1
    assert why in done.stderr
    assert "nothing was imported" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_skipping_a_refused_entry_skips_its_thread(tmp_path: Path) -> None:
    dump = lines(
        {"id": "thread_good", "messages": [{"role": "user", "content": "x"}]},
        listed_message("b", 1, "fine", at=1),
        {**listed_message("b", 2, "", at=2), "content": 5},
    )
    done = command(tmp_path, "import", "-", "--skip-refused", given=dump)
    assert done.returncode == 0
    assert "line 3: " in done.stderr
    assert rows(tmp_path, "SELECT id FROM threads") == [("thread_good",)]


def test_of_a_listing_only_threads_with_refused_entries_are_skipped(tmp_path: Path) -> None:
    """Entries before and after them are imported, and duplicates count once."""

    def assistant(short: str, **more: Any) -> dict[str, Any]:
        return {"id": f"asst_{short}", "object": "assistant", "model": "m", **more}

    mixed = [
        listed_message("a", 1, "one", at=1),
        listed_message("b", 1, "one", at=1),
        assistant("a"),
        {"object": "vector_store"},
        {**listed_message("b", 2, "two", at=2), "content": 5},
        {"role": "user", "content": "x"},
        assistant("bad", tools=[{"type": "action", "data": {"openapi_spec": "{}"}}]),
        assistant("b"),
        assistant("a", name="again"),
        listed_message("a", 2, "two", at=2),
    ]
    dump = lines({"object": "list", "data": mixed}, listed_message("c", 1, "one", at=1), assistant("b"))
    refused = command(tmp_path, "import", "-", given=dump)
    assert refused.returncode == 1
    assert [line.split(": ")[1:3] for line in refused.stderr.splitlines()[:-1]] == [
        ["line 1", f"data[{index}]"] for index in (3, 4, 5, 6)
    ]
    assert list(tmp_path.iterdir()) == []
    done = command(tmp_path, "import", "-", "--skip-refused", given=dump)
    assert "imported 2 threads with 3 messages and 0 runs, and 2 assistants" in done.stdout
    assert (done.returncode, done.stderr.splitlines()) == (0, refused.stderr.splitlines()[:-1])
    assert rows(tmp_path, "SELECT id FROM messages ORDER BY id") == [("msg_a1",), ("msg_a2",), ("msg_c1",)]
    assert rows(tmp_path, "SELECT id FROM assistants ORDER BY id") == [("asst_a",), ("asst_b",)]


def test_an_assistant_of_another_owner_is_refused(tmp_path: Path) -> None:
    keys = {"API_KEYS": "ann=ka,bob=kb"}
    dump = lines({"id": "asst_x", "object": "assistant", "model": "m"})
    assert command(tmp_path, "import", "-", "--owner", "ann", given=dump, **keys).returncode == 0
    done = command(tmp_path, "import", "-", "--owner", "bob", given=dump, **keys)
    expected = "threadhold: left out: asst_x: There is an assistant with id 'asst_x' already.\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_an_import_can_be_repeated_without_effect(tmp_path: Path) -> None:
    dump = lines(
        {
            "id": "thread_a",
            "messages": [listed_message("a", 1, "x", at=1)],
            "runs": [{"id": "run_a", "status": "completed"}],
        },
        {"messages": [{"role": "user", "content": "without an id"}]},
        {"id": "asst_x", "object": "assistant", "model": "m"},
    ).replace('"status": "completed"}]', '"status": "completed", "assistant_id": "asst_x"}]')
    everything = "SELECT id, body FROM {} ORDER BY seq"
    tables = ("threads", "messages", "runs", "assistants")
    command(tmp_path, "import", "-", given=dump)
    once = [rows(tmp_path, everything.format(table)) for table in tables]
    assert [len(each) for each in once] == [2, 2, 1, 1]
    done = command(tmp_path, "import", "-", given=dump)
    assert (done.returncode, done.stderr) == (0, "")
    assert "imported 0 threads" in done.stdout
    assert "3 existed already" in done.stdout
    assert [rows(tmp_path, everything.format(table)) for table in tables] == once


def test_a_dry_run_reads_everything_and_writes_nothing(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(lines({"id": "thread_dry", "messages": [listed_message("dry", 1, "x", at=1)]}))
    done = command(data(server), "import", tmp_path / "dump", "--dry-run")
    assert "would import 1 threads with 1 messages" in done.stdout
    assert httpx2.get(f"{server.url}/threads/thread_dry", timeout=10).status_code == 404


def test_an_import_is_refused_while_a_server_uses_the_store(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(lines({"id": "thread_late", "messages": []}))
    done = command(data(server), "import", tmp_path / "dump")
    assert done.returncode == 1
    assert "Stop it, import, and start it again" in done.stderr
    assert httpx2.get(f"{server.url}/threads/thread_late", timeout=10).status_code == 404


def test_a_killed_import_leaves_complete_threads_and_is_resumed(tmp_path: Path) -> None:
    count, each = 1500, 4
    dump = big_dump(tmp_path / "dump", count, each)
    folder = tmp_path / "data"
    folder.mkdir()
    with start_command(folder, "import", dump) as process:
        while process.poll() is None and not written(folder):
            time.sleep(0.002)
        process.kill()
    sizes = rows(
        folder,
        "SELECT COUNT(messages.id) FROM threads LEFT JOIN messages ON thread_id = threads.id GROUP BY threads.id",
    )
    assert 0 < len(sizes) < count, "the import was killed too early or too late"
    assert set(sizes) == {(each,)}
    done = command(folder, "import", dump)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(sizes)} existed already" in done.stdout
    assert rows(folder, "SELECT COUNT(*), COUNT(DISTINCT thread_id) FROM messages") == [(count * each, count)]


@pytest.mark.soak
def test_an_interrupted_import_leaves_complete_threads(tmp_path: Path) -> None:
    dump = big_dump(tmp_path / "dump", 1500, 4)
    folder = tmp_path / "data"
    folder.mkdir()
    with start_command(folder, "import", dump) as process:
        while process.poll() is None and not written(folder):
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "threadhold: interrupted\n")
    sizes = rows(folder, "SELECT COUNT(*) FROM messages GROUP BY thread_id")
    assert set(sizes) == {(4,)}


def big_dump(path: Path, threads: int, messages: int) -> Path:
    def one(n: int) -> dict[str, Any]:
        return {"id": f"thread_{n}", "messages": [listed_message(str(n), m, "x", at=n) for m in range(messages)]}

    path.write_text(lines(*map(one, range(threads))))
    return path


def written(folder: Path) -> bool:
    """Return whether the first thread is stored."""
    try:
        return bool(rows(folder, "SELECT 1 FROM threads LIMIT 1"))
    except sqlite3.Error:
        return False


def test_a_thread_with_another_thread_s_message_is_left_out(tmp_path: Path) -> None:
    message = {"id": "msg_one", "role": "user", "content": "x"}
    command(tmp_path, "import", "-", given=lines({"id": "thread_a", "messages": [message]}))
    both = lines({"id": "thread_b", "messages": [message]}, {"id": "thread_c", "messages": []})
    done = command(tmp_path, "import", "-", given=both)
    assert done.returncode == 1
    assert "left out: thread_b: There is a message with id 'msg_one' already." in done.stderr
    assert rows(tmp_path, "SELECT id FROM threads ORDER BY id") == [("thread_a",), ("thread_c",)]


def test_an_ambiguous_owner_is_refused(tmp_path: Path) -> None:
    keys = {"API_KEYS": "ann=ka,bob=kb"}
    dump = lines({"id": "thread_a", "messages": []})
    assert "Choose one with --owner" in command(tmp_path, "import", "-", given=dump, **keys).stderr
    assert "would be inaccessible" in command(tmp_path, "import", "-", "--owner", "eve", given=dump, **keys).stderr
    assert command(tmp_path, "import", "-", "--owner", "ann", given=dump, **keys).returncode == 0
    other = dump.replace("thread_a", "thread_b")
    assert command(tmp_path, "import", "-", "--owner", "bob", given=other, **keys).returncode == 0
    assert "Choose one with --owner" in command(tmp_path, "export").stderr
    exported = command(tmp_path, "export", "--owner", "bob").stdout
    assert [json.loads(line)["id"] for line in exported.splitlines()] == ["thread_b"]


def test_unfinished_runs_and_messages_are_left_out_of_an_export(
    server: ServerProcess, upstream: ScriptedUpstream
) -> None:
    thread = talk(server, "Settled")
    assistant = server.request("POST", "/assistants", {"model": "test-model"})["id"]
    upstream.script(Reply("One two three four", pause_after=2))
    server.request("POST", f"/threads/{thread}/messages", {"role": "user", "content": "More?"})
    run = server.request("POST", f"/threads/{thread}/runs", {"assistant_id": assistant})
    try:
        end = time.monotonic() + 60
        while len(thread_content(server, thread)["messages"]) < 4 and time.monotonic() < end:
            time.sleep(0.02)
        other = talk(server, "Elsewhere")
        done = command(data(server), "export", "--thread", thread)
        of_all = command(data(server), "export")
        of_other = command(data(server), "export", "--thread", other)
    finally:
        upstream.release()
        httpx2.post(f"{server.url}/threads/{thread}/runs/{run['id']}/cancel", timeout=10)
    (line,) = done.stdout.splitlines()
    exported = json.loads(line)
    assert [each["content"][0]["text"]["value"] for each in exported["messages"]] == [
        "Settled",
        "Echo: Settled",
        "More?",
    ]
    assert [each["status"] for each in exported["runs"]] == ["completed"]
    for each in (done, of_all):
        assert re.search(r"left out: (.* and )?1 runs in progress of default; only", each.stderr)
    assert "under way" not in of_other.stderr


def test_closing_the_pipe_ends_an_export_without_an_error(server: ServerProcess) -> None:
    talk(server, "Long", "x" * 100_000)
    with start_command(data(server), "export") as process:
        assert process.stdout is not None
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(20) == 1


def test_an_export_of_a_missing_thread_writes_no_file(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("dear")
    assert "exists already" in command(data(server), "export", tmp_path / "mine").stderr
    assert (tmp_path / "mine").read_text() == "dear"
    done = command(data(server), "export", tmp_path / "new", "--thread", "thread_none")
    assert (done.returncode, "There is no thread thread_none" in done.stderr) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def action(path: str, **data: Any) -> dict[str, Any]:
    """An action with one operation whose only parameter is provided by a key."""
    spec = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "servers": [{"url": "https://a.example"}]}
    operation = {"operationId": path, "responses": {"200": {"description": "x"}}}
    return {"type": "action", "data": {"openapi_spec": {**spec, "paths": {f"/{path}": {"get": operation}}}, **data}}


KEYED = [
    action("head", headers={"X-Key": "hush-1", "X-Other": "hush-2"}),
    {"type": "function", "function": {"name": "f"}},
    action("bearer", auth={"type": "bearer", "token": "hush-3"}, is_consequential=False),
    action("basic", auth={"type": "basic", "username": "ann", "password": "hush-4"}),
    action(
        "both", headers={"X-Key": "hush-5"}, auth={"type": "api_key", "in": "query", "name": "k", "value": "hush-6"}
    ),
    action("open"),
]


@pytest.mark.parametrize(
    "option", [[], pytest.param(["--skip-refused"], marks=pytest.mark.soak)], ids=["plain", "skip refused"]
)
def test_actions_are_imported_without_their_keys_and_named(
    option: list[str], upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    with served(tmp_path / "old", upstream) as server:
        assistant = server.request("POST", "/assistants", {"model": "m", "tools": KEYED})["id"]
        thread = server.request("POST", "/threads", {"messages": [{"role": "user", "content": "Hello"}]})["id"]
        body = {"assistant_id": assistant, "stream": True}
        httpx2.post(f"{server.url}/threads/{thread}/runs", json=body, timeout=90).read()
        expected = thread_content(server, thread)
        offered = upstream.requests[-1].body["tools"]
        exported = command(tmp_path / "old", "export")
        of_thread = command(tmp_path / "old", "export", "--thread", thread)
    dump = exported.stdout
    assert "hush" not in dump
    assert "left out: 6 keys of tools of default; only" in exported.stderr
    assert "left out" not in of_thread.stderr
    assert "*" in json.dumps(expected["runs"])

    dry = command(tmp_path / "new", "import", "-", "--dry-run", *option, given=dump)
    assert (dry.returncode, "4 tools would have no key" in dry.stderr) == (0, True)
    done = command(tmp_path / "new", "import", "-", *option, given=dump)
    assert done.returncode == 0
    first, *named = done.stderr.splitlines()
    assert first.startswith("threadhold: 4 tools have no key")
    assert "POST /assistants/{assistant_id}" in first
    assert named == [
        f"threadhold:   {assistant}: tools[0] (headers.X-Key, headers.X-Other), tools[2] (auth.token), "
        "tools[3] (auth.password), tools[4] (headers.X-Key, auth.value)"
    ]
    again = command(tmp_path / "new", "import", "-", *option, given=dump)
    assert (again.returncode, again.stderr) == (0, ""), "an existing action was reported without its keys"

    with served(tmp_path / "new", upstream) as server:
        came = server.request("GET", f"/assistants/{assistant}")["tools"]
        assert "*" not in json.dumps(came)
        assert [tool.get("data", {}).get("openapi_spec") for tool in came] == [
            tool.get("data", {}).get("openapi_spec") for tool in KEYED
        ]
        assert came[2]["data"]["is_consequential"] is False
        assert thread_content(server, thread) == expected
        httpx2.post(f"{server.url}/threads/{thread}/runs", json=body, timeout=90).read()
        assert upstream.requests[-1].body["tools"] == offered
        given = server.request("POST", f"/assistants/{assistant}", {"tools": KEYED})
        assert given["tools"][2]["data"]["auth"] == {"type": "bearer", "token": "********"}
    assert [orphan for (orphan,) in rows(tmp_path / "new", "SELECT private FROM runs") if "***" in str(orphan)] == []
