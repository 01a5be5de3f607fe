"""Traces for OpenTelemetry and LangSmith, only if their variables request them."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.api.conftest import ApiClient
from tests.process import ROOT, ServerProcess
from tests.upstream import Fail, Reply, ScriptedUpstream

QUESTION = "a very private question"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50", "LANGSMITH_API_KEY": "lsv2_pt_none"}


@dataclass
class Collector:
    """Accepts everything that is posted: (path, body)."""

    url: str
    posted: list[tuple[str, bytes]] = field(default_factory=list)

    def spans(self) -> dict[str, dict[str, Any]]:
        """Return every span received so far, by name: ids in hex, attributes as a dict."""
        found: dict[str, dict[str, Any]] = {}
        for path, body in list(self.posted):
            if path != "/v1/traces":
                continue
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = {one.key: one.value.string_value for one in of_resource.resource.attributes}
                for span in (span for scope in of_resource.scope_spans for span in scope.spans):
                    found[span.name] = {
                        "service": service["service.name"],
                        "trace": span.trace_id.hex(),
                        "id": span.span_id.hex(),
                        "parent": span.parent_span_id.hex(),
                        "failed": span.status.code == 2,
                        **{one.key: _value(one.value) for one in span.attributes},
                    }
        return found

    def until(self, *names: str) -> dict[str, dict[str, Any]]:
        """Return the spans once these have arrived."""
        end = time.monotonic() + 60
        while not set(names) <= self.spans().keys():
            assert time.monotonic() < end, f"only {sorted(self.spans())}"
            time.sleep(0.05)
        return self.spans()


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector("")

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.posted.append((self.path, self.rfile.read(int(self.headers["content-length"] or 0))))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_GET(self) -> None:
            made.posted.append((self.path, b""))
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def converse(server: ServerProcess, *, tools: tuple[Any, ...] = (), **headers: str) -> dict[str, Any]:
    """Complete one run."""
    with httpx2.Client(base_url=f"{server.url}/v1", timeout=20, headers=headers) as client:
        api = ApiClient(client)
        thread = {"messages": [{"role": "user", "content": QUESTION}]}
        body = {"assistant_id": api.assistant(tools=list(tools)), "thread": thread}
        return api.wait_ended(api.post("/threads/runs", body))


def test_a_run_is_part_of_the_trace_that_the_client_names(
    upstream: ScriptedUpstream, collector: Collector, tmp_path: Path, script: Callable[..., None]
) -> None:
    store = {"type": "file_search"}
    script(Reply(tool_calls=[("file_search", {"query": "private"})]), Reply("An answer that nobody shall read"))
    settings = {
        "MODEL_URL": upstream.url,
        "TOOL_CALLS": "native",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        **QUICK,
    }
    with ServerProcess(tmp_path, **settings) as server:
        with httpx2.Client(base_url=f"{server.url}/v1", timeout=20) as client:
            api = ApiClient(client)
            vectors = api.post("/vector_stores", {"file_ids": [api.file("Cats are private.")]})["id"]
            api.wait_processed(f"/vector_stores/{vectors}")
            found = {"file_search": {"vector_store_ids": [vectors]}}
            assistant = api.assistant(tools=[store], tool_resources=found)
            body = {"assistant_id": assistant, "thread": {"messages": [{"role": "user", "content": QUESTION}]}}
            client.headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
            run = api.wait_ended(api.post("/threads/runs", body))
        spans = collector.until("POST /v1/threads/runs", "invoke_agent", "chat m", "execute_tool file_search")
        log = [json.loads(line) for line in server.log.read_text().splitlines()]
    request, complete = spans["POST /v1/threads/runs"], spans["invoke_agent"]
    assert {one["service"] for one in spans.values()} == {"threadhold"}
    assert (request["trace"], request["parent"]) == (TRACE, PARENT)
    assert (complete["trace"], complete["parent"]) == (TRACE, request["id"])
    for name in ("chat m", "execute_tool file_search"):
        assert (spans[name]["trace"], spans[name]["parent"]) == (TRACE, complete["id"])
    assert (complete["threadhold.run.id"], complete["threadhold.run.status"]) == (run["id"], "completed")
    assert complete["gen_ai.usage.output_tokens"] == run["usage"]["completion_tokens"]
    assert spans["chat m"]["gen_ai.usage.input_tokens"] > 0
    assert QUESTION not in str(spans)
    assert "nobody shall read" not in str(spans)
    assert "/v1/threads/runs" in [line.get("path") for line in log if line.get("trace_id") == TRACE]


def test_a_failure_is_a_failed_span_without_its_message(
    upstream: ScriptedUpstream, collector: Collector, tmp_path: Path, script: Callable[..., None]
) -> None:
    script(Fail(400, {"error": {"message": f"I refuse {QUESTION}"}}))
    settings = {"MODEL_URL": upstream.url, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "mine"}
    with ServerProcess(tmp_path, **settings) as server:  # with the SDK's own delay of seconds
        converse(server)
        server.terminate()
        server.wait(20)
    spans = collector.spans()
    assert spans["chat m"]["failed"]
    assert spans["invoke_agent"]["failed"]
    assert (spans["chat m"]["error.type"], spans["invoke_agent"]["error.type"]) == ("refused", "invalid_prompt")
    assert spans["invoke_agent"]["service"] == "mine"
    assert QUESTION not in str(spans)


def test_an_unreachable_collector_delays_nothing(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    settings = {"MODEL_URL": upstream.url, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **QUICK}
    with ServerProcess(tmp_path, **settings) as server:
        for _ in range(3):
            assert converse(server)["status"] == "completed"
        started = time.monotonic()
        server.terminate()
        assert server.wait(20) == 0
        assert time.monotonic() - started < 10  # of which 5 are for a collector that becomes reachable again


@pytest.mark.soak
def test_langsmith_gets_the_run_if_its_variables_are_set(
    upstream: ScriptedUpstream, collector: Collector, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"LANGSMITH_TRACING=true\nLANGSMITH_ENDPOINT={collector.url}\n")
    with ServerProcess(tmp_path, bare=True, MODEL_URL=upstream.url, **QUICK) as server:
        run = converse(server)
        assert run["status"] == "completed"
        end = time.monotonic() + 60
        for text in (QUESTION, run["id"]):
            while text.encode() not in b"".join(body for _, body in list(collector.posted)):
                assert time.monotonic() < end, [path for path, _ in collector.posted]
                time.sleep(0.05)


def test_without_the_variables_nothing_is_sent(
    upstream: ScriptedUpstream, collector: Collector, tmp_path: Path
) -> None:
    settings = {"LANGSMITH_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    off = {"OTEL_SDK_DISABLED": "true", **QUICK}
    with ServerProcess(tmp_path, bare=True, MODEL_URL=upstream.url, **settings, **off) as server:
        assert converse(server)["status"] == "completed"
        server.terminate()
        server.wait(20)
    assert collector.posted == []


def test_a_collector_without_its_package_is_only_a_warning() -> None:
    program = (
        "import sys; sys.modules['opentelemetry.exporter.otlp.proto.http.trace_exporter'] = None; "
        "import logging; logging.basicConfig(); import server; print(type(server._tracing()).__name__)"
    )
    environment = {"PATH": "/usr/bin:/bin", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "nullcontext"
    assert "pip install opentelemetry-exporter-otlp-proto-http" in done.stderr


@pytest.mark.soak
def test_tracing_is_not_imported_until_it_is_requested() -> None:
    program = (
        "import sys, server; app = server.create_app(server.Settings(_env_file=None)); "
        "print([name for name in sys.modules if name.startswith(('prometheus_client', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
