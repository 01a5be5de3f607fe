"""The server and its processes resolve no name, connect to this machine only, and write nothing to the home folder.

strace observes them from outside, because libraries in C could do it by themselves.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.process import ROOT, ServerProcess
from tests.upstream import ScriptedUpstream

STRACE = shutil.which("strace")
CALLS = "connect,sendto,sendmsg,sendmmsg"
"""`-D` below: the tracer is a grandchild, so that signals reach the server itself. `--seccomp-bpf`: only these calls
stop a process, which is several times as fast."""
WATCH = ("-D", "-f", "--seccomp-bpf", "-qq", "-s", "64", "-e", f"trace={CALLS}", "-e", "signal=none")
LATER_S = 3.0
"""Telemetry is sent by threads that take their time; onnxruntime's was seen within a second."""

pytestmark = [
    pytest.mark.skipif(STRACE is None, reason="strace is not installed"),
    pytest.mark.timeout(360),
]


def outside_calls(trace: Path) -> list[str]:
    """Return the system calls that address anything beyond this machine's loopback."""
    lines = [line for line in trace.read_text(errors="replace").splitlines() if "sa_family=AF_INET" in line]
    own = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "(::1|::ffff:127\.)')
    return [line for line in lines if not own.search(line)]


def traced(folder: Path) -> tuple[str, ...]:
    assert STRACE is not None
    return (STRACE, *WATCH, "-o", str(folder / "trace"))


def test_a_trace_shows_connections_to_other_machines(tmp_path: Path) -> None:
    ask = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 53))"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ask!r}], check=True)"
    subprocess.run([*traced(tmp_path), sys.executable, "-c", f"{ask}; {child}"], check=True, timeout=60)
    assert len(outside_calls(tmp_path / "trace")) == 2


@pytest.mark.parametrize("engine", ["built-in", pytest.param("upstream", marks=pytest.mark.soak)])
def test_files_runs_and_engines_connect_to_this_machine_only(tmp_path: Path, engine: str) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    home.mkdir()
    data.mkdir()
    with ScriptedUpstream() as upstream:
        settings = {"MODEL_URL": upstream.url} if engine == "upstream" else {"MODEL_CONTEXT_SIZE": "512"}
        before = (*traced(tmp_path), "--")
        server = ServerProcess(data, before=before, HOME=str(home), **settings)
        server.start()
        try:
            index_a_file(server)
            run = server.request(
                "POST",
                "/threads/runs",
                {
                    "assistant_id": server.request("POST", "/assistants", {"model": ""})["id"],
                    "thread": {"messages": [{"role": "user", "content": "Say hello."}]},
                    "max_completion_tokens": 256,
                },
            )
            path = f"/threads/{run['thread_id']}/runs/{run['id']}"
            until(lambda: server.request("GET", path)["status"] in ("completed", "incomplete"))
            time.sleep(LATER_S)
        finally:
            server.terminate()
            server.wait(30)
    assert outside_calls(tmp_path / "trace") == []
    assert [str(path.relative_to(home)) for path in home.rglob("*")] == []


def index_a_file(server: ServerProcess) -> None:
    form = {"purpose": "assistants"}
    files = {"file": ("cats.html", b"<p>Cats purr.</p>", "text/html")}
    file = httpx2.post(f"{server.url}/v1/files", data=form, files=files, timeout=30).json()
    store = server.request("POST", "/vector_stores", {"file_ids": [file["id"]]})
    path = f"/vector_stores/{store['id']}/files/{file['id']}"
    until(lambda: server.request("GET", path)["status"] != "in_progress")
    assert server.request("GET", path)["status"] == "completed"
    server.request("POST", f"/vector_stores/{store['id']}/search", {"query": "What do cats do?"})


def until(holds: object) -> None:
    assert callable(holds)
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.soak
def test_the_command_line_connects_to_no_machine(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = [*traced(tmp_path), sys.executable, str(ROOT / "server.py"), "check"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "DATA_DIR": str(tmp_path)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=60)
    assert outside_calls(tmp_path / "trace") == []
    assert list(home.rglob("*")) == []
