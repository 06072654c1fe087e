"""Two thousand clients lose their server at once, and come back to the next one."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import sites
from tests.servers import ROOT, Server
from tests.sites import environment_of

pytestmark = [pytest.mark.server, pytest.mark.measured]

CLIENTS = 2000
PUBLISH = """
from example_project.newsroom.models import ArticlePage
page = ArticlePage.objects.live().public().filter(alias_of=None).first()
page.title = {title!r}
page.save_revision().publish()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))  # the server's as well
    folder = tmp_path_factory.mktemp("herd") / "site"
    shutil.copytree(sites.seeded(tmp_path_factory), folder)
    application = "tests.journeys.observed:application"
    server = Server(folder / "server.log", environment_of(folder), application=application)
    yield server
    server.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def herd(server: Server) -> Iterator[Callable[[], dict[str, Any]]]:
    """Two thousand clients; gives what they say of their last coming."""
    command = [sys.executable, str(Path(__file__).with_name("herd.py"))]
    with subprocess.Popen(
        [*command, str(server.port), str(CLIENTS)], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        yield lambda: json.loads(process.stdout.readline())
        process.kill()


@pytest.mark.parametrize("goodbye", [True, False], ids=["SIGTERM", "kill -9"])
def test_a_herd_comes_back_and_resumes(
    goodbye: bool, server: Server, herd: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    herd()
    if goodbye:
        server.terminate()
        server.process.wait()
    else:
        server.kill()
    server.shell(PUBLISH.format(title=f"What they missed, {goodbye}"))
    server.start(wait=False)
    back = herd()
    state = server.ask("/debug/state")
    rss = psutil.Process(server.process.pid).memory_info().rss
    times = back["times"]
    first, last = min(times), max(times)
    seconds = [int(one - first) for one in times]
    with capsys.disabled():
        print(
            f"\n{CLIENTS} clients after {'SIGTERM' if goodbye else 'kill -9'}: "
            f"closed with {back['codes'] or 'nothing'}, {back['attempts']} attempts; "
            f"the first was back {first - back['began']:.1f} s after the end, the last "
            f"{last - first:.1f} s after the first; at most "
            f"{max(map(seconds.count, set(seconds)))} in one second; {back['answers']}; "
            f"{state['statements']} statements on {state['pool_connections_opened']} connections; "
            f"{rss / 2**20:.0f} MB"
        )
    assert back["answers"] == {"resume": CLIENTS}
    assert state["statements"] < CLIENTS / 2
    # Four at once; while SQLite recovers from the kill it may refuse one, which is opened again.
    assert state["pool_connections_opened"] <= 8
    assert state["followers"] == CLIENTS
    assert set(back["codes"]) == ({"1012"} if goodbye else set())
