"""What a connection that breaks off leaves behind: nothing."""

import socket
import time

from tests.api.conftest import World
from tests.process import ServerProcess


def test_half_a_body_is_not_taken_for_an_empty_one(server: ServerProcess, world: World) -> None:
    before = world.get("/threads", params={"limit": 1})["first_id"]
    head = (
        "POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head.encode() + b'{"metadata": {')
    time.sleep(0.3)
    assert world.get("/threads", params={"limit": 1})["first_id"] == before
