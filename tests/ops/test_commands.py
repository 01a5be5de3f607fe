"""The arguments of the command line, and the messages for invalid ones."""

import re

import pytest

from server import main
from tests.process import ROOT

WORDS = ("serve", "check", "backup", "export", "import", "prune", "keys", "usage", "licenses")


def run_main(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Return the exit code, the output and the errors."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    code = ended.value.code
    assert isinstance(code, int)
    return code, *capsys.readouterr()


def test_help_names_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_main(capsys, "--help")
    assert code == 0
    assert [word for word in WORDS if f"\n    {word} " not in out] == []
    assert "0 success, 1 failure" in out


def test_the_documentation_has_every_command() -> None:
    table = re.search(r"^\| command \| \|\n(.*?)\n\n", (ROOT / "docs/operate.md").read_text(), re.DOTALL | re.MULTILINE)
    assert table
    assert sorted(re.findall(r"^\| `(\w+)", table[1], re.MULTILINE)) == sorted(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_every_command_has_a_help_text(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_main(capsys, word, "--help")
    assert (code, err) == (0, "")
    assert f"usage: threadhold {word}" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["exprot"], "invalid choice: 'exprot'"),
        (["--prot=1"], "unrecognized arguments: --prot=1"),
        (["--por=1"], "unrecognized arguments: --por=1"),
        (["--port", "x"], "argument --port: invalid int value: 'x'"),
        (["backup"], "required: folder"),
        (["prune", "--older-than", "soon"], "'soon' is not a duration; write, for example, 30d, 12h or 4w"),
        (["prune", "--older-than", "0d"], "'0d' is not a duration"),
        (["prune", "--older-than", "99999999d"], "'99999999d' is too long; the maximum is 73200d (200 years)"),
        (["prune", "--older-than", f"{'9' * 400}w"], "w' is too long; the maximum is 73200d"),
        (["prune", "--older-than", "73200.1d"], "'73200.1d' is too long"),
        (["--port", "1", "check"], "--port can only be used with `serve`"),
        (["check", "now"], "unrecognized arguments: now"),
    ],
    ids=[
        "command",
        "option",
        "half an option",
        "value",
        "what is missing",
        "no time",
        "none at all",
        "too much time",
        "endless time",
        "a bit too much time",
        "option of another",
        "one too many",
    ],
)
def test_invalid_arguments_are_reported(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_main(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
