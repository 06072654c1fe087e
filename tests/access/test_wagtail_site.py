"""The matrix of access once more, on the objects that Wagtail's own tests come with."""

from __future__ import annotations

import subprocess
import sys

from tests.servers import ROOT


def test_each_transport_says_what_rest_says_on_wagtails_own_test_site() -> None:
    # Another set of models needs a process of its own; its warnings are that set's.
    settings = "--ds=tests.access.wagtail_site.settings"
    options = ["-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/access/test_matrix.py", settings, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
