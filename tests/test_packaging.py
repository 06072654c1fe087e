"""What a user installs: built as for a release, put into empty environments, and used."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

import wagtail_live
from tests.requires import lacking

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "wagtail_live"
BESIDES = ("CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.cfg")
FILES = {
    str(path.relative_to(ROOT))
    for path in PACKAGE.rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
FOREIGN = ("tests/", "example_project/", "docs/", "var/")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is released: a build leaves files beside its sources."""
    folder = tmp_path_factory.mktemp("sources") / "wagtail-live-content"
    leave = shutil.ignore_patterns("__pycache__", "node_modules", "_build")
    for name in ("wagtail_live", "tests", "example_project", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for name in BESIDES:
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def sdist(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "-o", folder, cwd=sources)
    [found] = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it is made from the sdist, by pip as by whoever releases."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    [folder] = unpacked.iterdir()
    target = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "-o", target, cwd=folder)
    [found] = target.iterdir()
    return found


@pytest.fixture(scope="module")
def wheel_of_sources(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it is made from a checkout."""
    target = tmp_path_factory.mktemp("direct")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "-o", target, cwd=sources)
    [found] = target.iterdir()
    return found


def names(archive: Path) -> set[str]:
    """Return the names of the files in an archive, without the folder that an sdist has."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return set(wheel.namelist())
    with tarfile.open(archive) as sdist:
        files = [one.name for one in sdist.getmembers() if one.isfile()]
    return {name.partition("/")[2] for name in files}


def foreign(found: Iterable[str]) -> list[str]:
    return [name for name in found if name.startswith(FOREIGN)]


def environment(folder: Path, *arguments: str | Path) -> Path:
    """Make an empty environment, install into it with this one's pip, return its Python."""
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-compile", *arguments, cwd=folder)
    return python


@pytest.mark.parametrize("archive", ["wheel", "wheel_of_sources", "sdist"])
def test_an_archive_holds_every_file_of_the_package_and_nothing_of_ours(
    archive: str, request: pytest.FixtureRequest
) -> None:
    found = names(request.getfixturevalue(archive))
    assert found >= FILES
    assert foreign(found) == []
    assert {name for name in found if name.startswith("wagtail_live/")} == FILES


@pytest.mark.parametrize(
    "kind",
    [
        "wagtail_live/py.typed",
        "wagtail_live/static/wagtail_live/wagtail-live.js",
        "wagtail_live/static/wagtail_live/wagtail-live-dom.js",
        "wagtail_live/static/wagtail_live/wagtail-live.d.ts",
        "wagtail_live/migrations/0001_initial.py",
        "wagtail_live/templatetags/wagtail_live.py",
        "wagtail_live/management/commands/live_new_epoch.py",
        "wagtail_live/management/commands/live_prune.py",
    ],
)
def test_what_a_site_needs_besides_code_is_in_the_wheel(kind: str, wheel: Path) -> None:
    assert kind in names(wheel)


def test_the_sdist_says_what_changed_and_under_which_licence(sdist: Path) -> None:
    assert names(sdist) >= {"CHANGELOG.md", "LICENSE", "README.md", "setup.cfg", "pyproject.toml"}


@pytest.mark.parametrize("archive", ["wheel", "sdist"])
def test_an_archive_installs_into_an_empty_environment(
    archive: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = request.getfixturevalue(archive)
    if archive == "sdist":
        # As pip does it, but with the build backend that is here.
        pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q")
        run(*pip, "-w", tmp_path, path, cwd=tmp_path)
        [path] = tmp_path.glob("*.whl")
    python = environment(tmp_path / "empty", "--no-deps", path)
    code = (
        "import wagtail_live, importlib.metadata as metadata, pathlib\n"
        "print(wagtail_live.__version__, metadata.version('wagtail-live-content'))\n"
        "folder = pathlib.Path(wagtail_live.__file__).parent\n"
        "print(*sorted(str(one.relative_to(folder.parent)) for one in folder.rglob('*')\n"
        "              if one.is_file() and one.suffix != '.pyc'), sep='\\n')\n"
    )
    versions, *files = run(python, "-I", "-c", code, cwd=tmp_path).splitlines()
    assert versions == f"{wagtail_live.__version__} {wagtail_live.__version__}"
    assert set(files) == FILES


SITE = {
    "site_settings.py": """
        SECRET_KEY = "only for this test"
        ROOT_URLCONF = "site_urls"
        INSTALLED_APPS = [
            "wagtail_live", "wagtail.api.v2", "wagtail.users", "wagtail.documents",
            "wagtail.images", "wagtail.admin", "wagtail", "modelcluster", "taggit",
            "rest_framework", "django.contrib.auth", "django.contrib.contenttypes",
            "django.contrib.sessions", "django.contrib.messages", "django.contrib.staticfiles",
        ]
        MIDDLEWARE = [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ]
        TEMPLATES = [{
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {"context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]},
        }]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        STATIC_URL = "/static/"
        STATIC_ROOT = "collected"
        USE_TZ = True
        WAGTAIL_SITE_NAME = "A site"
        WAGTAILADMIN_BASE_URL = "http://localhost:8000"
        WAGTAIL_LIVE_API_ROUTER = "site_urls.api_router"
    """,
    "site_urls.py": """
        from django.urls import path
        from wagtail.api.v2.router import WagtailAPIRouter
        from wagtail.api.v2.views import PagesAPIViewSet

        api_router = WagtailAPIRouter("wagtailapi")
        api_router.register_endpoint("pages", PagesAPIViewSet)
        urlpatterns = [path("api/v2/", api_router.urls)]
    """,
    "site_asgi.py": """
        from django.core.asgi import get_asgi_application

        http = get_asgi_application()
        from channels.routing import ProtocolTypeRouter, URLRouter
        from wagtail_live.routing import websocket_urlpatterns

        application = ProtocolTypeRouter(
            {"http": http, "websocket": URLRouter(websocket_urlpatterns)}
        )
    """,
    "use.py": """
        import django
        django.setup()
        from django.core.management import call_command
        from wagtail.models import Page
        from wagtail_live import head

        call_command("check", fail_level="WARNING")
        call_command("makemigrations", "wagtail_live", check_changes=True, dry_run=True)
        call_command("collectstatic", verbosity=0, interactive=False)
        call_command("migrate", verbosity=0)
        before = head.position().number
        Page.objects.get(depth=2).save_revision().publish()
        print("heard", head.position().number - before)
        import site_asgi
    """,
}


def test_the_wheel_brings_all_that_a_site_needs(wheel: Path, tmp_path: Path) -> None:
    try:
        python = environment(tmp_path / "site", wheel)
    except AssertionError as error:
        if "No matching distribution" in str(error) or "connection" in str(error).lower():
            lacking("a package registry to install Wagtail from")
        raise
    for name, text in SITE.items():
        lines = [line.removeprefix("        ") for line in text.strip("\n").splitlines()]
        (tmp_path / name).write_text("\n".join(lines))
    site = {"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": str(tmp_path)}
    assert run(python, "use.py", cwd=tmp_path, **site).splitlines()[-1] == "heard 1"
    assert (tmp_path / "collected" / "wagtail_live" / "wagtail-live.js").is_file()


def test_the_versions_that_the_classifiers_name_are_those_that_are_required() -> None:
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    classifiers = metadata["metadata"]["classifiers"].split("\n")
    for version in ("3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {version}" in classifiers
    assert metadata["options"]["python_requires"] == ">=3.11"
    required = metadata["options"]["install_requires"].split("\n")
    assert {"Django>=5.2", "wagtail>=7.4"} <= set(required)
    assert not any("<" in one or "==" in one for one in required)
