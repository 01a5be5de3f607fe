"""An API that the server calls itself, here a small local one. Run with `ACTIONS_ALLOW_HOSTS=127.0.0.1` on the server:
`THREADHOLD_URL=http://127.0.0.1:3000 python examples/openapi_action.py`."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from openai import OpenAI


class Tides(BaseHTTPRequestHandler):
    """GET /tides?port=… returns a tide."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"tide": "low until noon"}')

    def log_message(self, *_: object) -> None:
        """Log nothing."""


api = HTTPServer(("127.0.0.1", 0), Tides)
Thread(target=api.serve_forever, daemon=True).start()
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Tides", "version": "1"},
    "servers": [{"url": f"http://127.0.0.1:{api.server_port}"}],
    "paths": {
        "/tides": {
            "get": {
                "operationId": "get_tide",
                "summary": "Tide of a port",
                "parameters": [{"name": "port", "in": "query", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": {"description": "The tide"}},
            }
        }
    },
}
client = OpenAI(base_url=os.environ.get("THREADHOLD_URL", "http://127.0.0.1:3000") + "/v1", api_key="any")
action = {"type": "action", "data": {"openapi_spec": DOCUMENT}}
assistant = client.beta.assistants.create(model="", tools=[action])  # a kind of tool that the SDK lets pass
thread = client.beta.threads.create(messages=[{"role": "user", "content": "How is the tide in Brest?"}])
with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
    for text in stream.text_deltas:
        print(text, end="", flush=True)
print()
api.shutdown()
