"""Output of commands: untrusted text stays text, and never controls the terminal."""

import ast
import io
import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest

from ops.terminal import print_error, print_line
from telemetry.plain import plain
from tests.ops.command import command
from tests.repository.test_packages import TOP

ORDERS = [
    *(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))),
    *(chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C, 0x2028, 0x2029)),
    *("\ufeff", "\u200b", "\ufff9", "\U000e0041", "\ud800"),
]
SPOKEN = "café 日本語 שלום می\u200cخواهم 👩\u200d💻 1\u202f000 x\u00a0y"  # noqa: RUF001
ATTACK = "a\x1b[31m\u202eevil\u2066\x9b2J\r\n\x07\u200f\u061c"


def is_harmless(text: str) -> bool:
    return all(
        unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or each in "\n\u200c\u200d" for each in text
    )


@pytest.mark.parametrize("order", ORDERS, ids=[f"U+{ord(order):04X}" for order in ORDERS])
def test_a_control_sequence_is_shown_as_an_escape(order: str) -> None:
    assert re.fullmatch(r"a\\[a-zA-Z0-9]+b", plain(f"a{order}b"))


def test_ordinary_text_stays_unchanged() -> None:
    assert plain(SPOKEN) == SPOKEN


def test_a_line_stays_one_line_in_any_encoding(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_line(f"{ATTACK}{SPOKEN}")
    print_error(f"{ATTACK}{SPOKEN}")
    result = capsys.readouterr()
    assert result.out.count("\n") == result.err.count("\n") == 1
    assert is_harmless(result.out + result.err)
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    print_line(SPOKEN)
    narrow.flush()


def test_commands_print_through_one_function() -> None:
    """A `print` elsewhere would show text without escapes."""
    found = [
        f"{path.name}:{node.lineno}"
        for path in sorted((TOP / "ops").glob("*.py"))
        if path.name != "terminal.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


@pytest.mark.parametrize(
    "entry",
    [
        {"id": f"thread_{ATTACK}", "object": "thread", "messages": []},
        {"object": f"thread{ATTACK}"},
        {"id": "asst_1", "object": "assistant", "model": "m", "tools": [{"type": ATTACK}]},
        {"id": "asst_1", "object": "assistant", "model": "m", "metadata": {ATTACK: 1}},
        {"id": "msg_1", "object": "thread.message", "thread_id": "thread_1", "role": ATTACK, "content": "x"},
    ],
    ids=["id", "object", "a tool's type", "a key", "role"],
)
def test_a_hostile_dump_cannot_control_the_terminal(tmp_path: Path, entry: object) -> None:
    dump = tmp_path / f"dump{ATTACK.replace(chr(10), '')}.jsonl"
    dump.write_text(json.dumps(entry))
    for source in (dump, tmp_path / f"none{ATTACK}"):
        done = command(tmp_path, "import", str(source))
        assert done.returncode == 1
        assert is_harmless(done.stdout + done.stderr)
        assert "Traceback" not in done.stderr
