"""The status of real processes: there while they serve, gone when they end in order."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.sync.client import connect

from tests.servers import Server, manage, wait_until

pytestmark = pytest.mark.server


def status(server: Server) -> Any:
    """Return what ``live_status`` says beside the server."""
    return json.loads(manage("live_status", "--json", environment=server.environment))


def test_a_server_is_in_the_status_while_it_serves_and_leaves_it_when_it_is_stopped(
    server: Server,
) -> None:
    with connect(server.socket_url) as client:
        client.send(json.dumps({"type": "subscribe", "collection": "pages"}))
        assert json.loads(client.recv(timeout=30))["event"] == "init"
        wait_until(lambda: status(server)["processes"], what="the server's row")
        [process] = status(server)["processes"]
        assert process["pid"] == server.process.pid
        assert process["bell"] == "off"
        with urlopen(f"{server.url}/live/health/", timeout=10) as answer:
            assert json.load(answer) == {"status": "ok", "problems": []}
        server.stop()
    assert status(server)["processes"] == []
