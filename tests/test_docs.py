"""
The README and the pages below docs/ cannot lie for long: what they say is compared with the code,
and every block of code is run, or at least read by what would run it.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from django.contrib.auth.models import AnonymousUser, Group
from django.template import engines
from django.test import RequestFactory
from playwright.sync_api import expect, sync_playwright
from wagtail.models import Site

import example_project.newsroom.models
from example_project.newsroom.models import ArticlePage, Author, Category, HomePage
from tests import newsroom
from tests.requires import program
from tests.servers import ROOT, Server, answers, free_port, wait_until
from wagtail_live import (
    changes,
    checks,
    conf,
    database,
    diagnosis,
    events,
    exceptions,
    policies,
    policy,
    protocol,
    relay,
    sse,
    testing,
)
from wagtail_live.checks.settings import RANGES
from wagtail_live.representation import UNFOLLOWABLE, Representation

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: as ```` ```python ```` or as a ``code-block`` directive."""

    page: Path
    line: int
    language: str
    text: str
    caption: str = ""
    name: str = ""
    added: tuple[int, ...] = ()  #: numbers of the lines that are marked as new

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


_FENCE = re.compile(r"^```(\{code-block\} )?(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in _FENCE.finditer(text):
        directive, language, body = found.groups()
        options: dict[str, str] = {}
        while directive and (option := re.match(r":([\w-]+): *(.*)\n", body)):
            options[option[1]] = option[2]
            body = body[option.end() :]
        yield Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=language,
            text=body,
            caption=options.get("caption", ""),
            name=options.get("name", ""),
            added=tuple(int(one) for one in options.get("emphasize-lines", "").split(",") if one),
        )


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def named(name: str) -> Block:
    [block] = [block for block in BLOCKS if block.name == name]
    return block


def page(name: str) -> str:
    return (DOCS / name).read_text()


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables in ``text``, without their heads."""
    lines = re.findall(r"^\| ?(.*?) ?\|$", text, re.MULTILINE)
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    heads = {index - 1 for index, row in enumerate(cells) if set("".join(row)) <= set("- :")}
    return [row for index, row in enumerate(cells) if index not in heads | {h + 1 for h in heads}]


def section(text: str, title: str) -> str:
    """Return what stands below the heading ``title``, up to the next heading."""
    found = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {title!r}"
    return found[1]


# What the pages say, and what the code is.


def test_every_setting_is_in_the_reference_with_its_default_and_no_other() -> None:
    described = re.findall(
        r"^## `(WAGTAIL_LIVE_\w+)`\n\nDefault: `(.*?)`", page("reference/settings.md"), re.MULTILINE
    )
    assert {name: ast.literal_eval(default) for name, default in described} == {
        f"{conf.PREFIX}{field.name.upper()}": field.default for field in fields(conf.Settings)
    }


def test_every_number_in_the_reference_of_settings_has_its_range() -> None:
    described = re.findall(
        r"^## `WAGTAIL_LIVE_(\w+)`\n\nDefault: .*, range: (\S+) to (\S+)$",
        page("reference/settings.md"),
        re.MULTILINE,
    )
    assert {
        name.lower(): (float(Fraction(low)), float(Fraction(high))) for name, low, high in described
    } == RANGES


def test_no_page_names_a_setting_that_does_not_exist() -> None:
    for path in PAGES:
        unknown = set(re.findall(r"WAGTAIL_LIVE_[A-Z_]*[A-Z]", path.read_text())) - conf.NAMES
        assert not unknown, f"{path.name} names {unknown}"


def _errors() -> list[type[exceptions.LiveError]]:
    return list(exceptions.kinds())


def test_every_code_is_in_the_reference_with_its_sentence_and_no_other() -> None:
    described = {row[0].strip("`"): row[1] for row in rows(section(page(ERRORS), "Codes"))}
    on_the_wire = [error for error in _errors() if error is not exceptions.BadCursor]
    assert described == {error.code: " ".join(error.__doc__.split()) for error in on_the_wire}


ERRORS = "reference/errors.md"


def test_every_reason_of_a_reset_is_in_the_reference_and_no_other() -> None:
    described = {row[0].strip("`") for row in rows(section(page(ERRORS), "Reasons of a reset"))}
    assert described == set(_reset_reasons())


def _reset_reasons() -> Iterator[str]:
    for path in (ROOT / "wagtail_live").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name("BadCursor"), args=[ast.Constant(str(reason))]):
                    yield reason
                case ast.keyword("renew", ast.Constant(str(reason))):
                    yield reason
                case ast.Assign(targets=[ast.Name("reason")], value=ast.Constant(str(reason))):
                    yield reason
                case ast.keyword(arg="renew", value=ast.Constant(str(reason))):
                    yield reason


def test_every_close_code_is_in_the_reference_with_its_name_and_no_other() -> None:
    table = rows(section(page("reference/close-codes.md"), "Codes of wagtail_live"))
    assert {int(row[0]): row[1].strip("`") for row in table} == {
        code.value: code.name for code in protocol.CloseCode
    }


def test_every_message_type_and_event_is_in_the_reference() -> None:
    text = page("reference/messages.md")
    headings = set(re.findall(r"^### `(\w+)`", text, re.MULTILINE))
    assert headings == {*protocol.TYPES, "subscription", "error"}
    events_said = {row[0].strip("`") for row in rows(section(text, "`subscription`"))}
    assert events_said == {"init", "resume", "unsubscribe", *protocol.Event.__args__}


@pytest.mark.parametrize(
    "kind", [protocol.Auth, protocol.Subscribe, protocol.Unsubscribe, protocol.Ping]
)
def test_every_member_of_a_message_is_in_the_reference_and_no_other(kind: Any) -> None:
    tag = kind.__struct_config__.tag
    table = rows(section(page("reference/messages.md"), f"`{tag}`"))
    assert {row[0].strip("`") for row in table} == set(kind.__struct_fields__)


def test_the_parameters_of_the_other_transports_are_in_the_reference_and_no_other() -> None:
    names = set(protocol.Subscribe.__struct_fields__)
    events_page, changes_page = page("reference/events.md"), page("reference/changes.md")
    table = rows(section(events_page, "`GET`: one subscription"))
    assert {row[0].strip("`") for row in table} == names
    table = rows(section(changes_page, "Parameters"))
    assert {row[0].strip("`") for row in table} == names | {"wait"}


def test_the_bounds_of_the_other_transports_are_in_the_reference() -> None:
    said = " ".join(page("reference/events.md").split())
    assert f"more than {sse.ANSWER_SECONDS:.0f} seconds" in said
    assert f"within {sse.BODY_SECONDS:.0f} seconds" in said
    assert (sse.LIFE, f"retry: {sse.AGAIN_MS}" in said) == ((4, 8), True)
    assert "between {} and {} heartbeats".format(*sse.LIFE_HEARTBEATS) in said
    said = " ".join(page("reference/changes.md").split())
    assert f"{changes.WAIT_SECONDS:.0f} at most" in said
    assert f"{changes.WAITING_LIMIT} requests may wait at once" in said
    assert f"not within {changes.ANSWER_SECONDS:.0f} seconds" in said
    assert f"`Retry-After: {changes.AGAIN_SECONDS}`" in said


def test_every_check_is_in_the_reference_and_no_other() -> None:
    described = {row[0].strip("`") for row in rows(page("reference/checks.md"))}
    assert described == set(
        re.findall(
            r"wagtail_live\.[EWI]\d+",
            "".join(file.read_text() for file in Path(checks.__path__[0]).glob("*.py")),
        )
    )


def test_every_problem_of_health_is_in_the_reference_with_its_status_and_no_other() -> None:
    table = rows(section(page("reference/health.md"), "Problems"))
    described = {row[0].strip("`"): (row[1], row[2]) for row in table}
    assert described == {
        problem.name: ("down" if problem.down else "degraded", problem.message)
        for problem in diagnosis.Problem
    }
    assert all(row[3] for row in table)


@pytest.mark.parametrize(
    ("kind", "title"), [(diagnosis.ProcessState, "`processes`"), (events.LogState, "`log`")]
)
def test_every_figure_of_health_is_in_the_reference_and_no_other(kind: Any, title: str) -> None:
    table = rows(section(page("reference/health.md"), title))
    described = {name for row in table for name in re.findall(r"`(\w+)`", row[0])}
    assert described - {"entries"} == {field.name for field in fields(kind)}


def test_the_policy_s_questions_are_in_the_reference_and_no_other() -> None:
    described = set(re.findall(r"^### `(\w+)\(", page("reference/policy.md"), re.MULTILINE))
    assert described == {name for name in vars(policy.Policy) if not name.startswith("_")}


def test_what_an_audience_holds_is_in_the_reference_and_no_other() -> None:
    table = rows(section(page("reference/policy.md"), "The audience"))
    assert {row[0].strip("`") for row in table} == {one.name for one in fields(events.Audience)}


def test_what_there_is_for_tests_is_in_the_reference_and_nothing_else() -> None:
    text = page("reference/testing.md")
    members = {row[0].strip("`") for row in rows(text)}
    client = testing.LiveClient
    arguments = set(inspect.signature(client).parameters)
    methods = {name for name in vars(client) if not name.startswith("_")}
    exceptions_raised = {
        name
        for name, one in vars(testing).items()
        if isinstance(one, type) and issubclass(one, Exception)
    }
    assert members == arguments | methods | exceptions_raised


def test_every_module_is_in_the_architecture_and_no_other() -> None:
    table = rows(section(page("explanation/architecture.md"), "The modules"))
    described = {name for row in table for name in re.findall(r"`(\w+)`", row[0])}
    modules = {path.stem for path in (ROOT / "wagtail_live").glob("*.py")} | {"checks"}
    assert described == modules - {"__init__"}


def test_what_cannot_be_followed_is_in_the_reference() -> None:
    text = section(page("reference/messages.md"), "Queries")
    assert all(f"`{name}`" in text for name in UNFOLLOWABLE)


def test_the_readme_names_the_supported_versions() -> None:
    metadata = ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    classifiers = metadata["metadata"]["classifiers"].splitlines()
    text = section(README.read_text(), "Supported versions")
    for classifier in classifiers:
        found = re.fullmatch(
            r"(?:Framework|Programming Language) :: (\w+) :: (\d+\.\d+)", classifier
        )
        if found:
            assert re.search(rf"{found[1]}\b[^;\n]*\b{re.escape(found[2])}\b", text), classifier


def test_no_page_names_a_place_that_only_its_author_has() -> None:
    for path in [*PAGES, *DOCS.glob("*.py")]:
        assert not re.search(r"/(work|tmp|root|home)/\w", path.read_text()), path


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if not re.match(r"\w+:", target):
            assert (path.parent / target).exists(), target


# What the blocks are.


def test_every_block_is_in_a_language_that_is_checked() -> None:
    known = {"python", "js", "json", "html", "console", "ini", "nginx", "text"}
    assert {block.language for block in BLOCKS} <= known


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    text = block.text
    if block.added:  # an excerpt: what it opens it need not close
        text = re.sub(r"(?s)^(.*)\[\n.*$", r"\1[]", text)
    compile(text, str(block), "exec")


@pytest.mark.parametrize("block", of("js"), ids=str)
def test_javascript_is_a_module(block: Block, tmp_path: Path) -> None:
    _check_module(block.text, tmp_path)


@pytest.mark.parametrize("block", of("html"), ids=str)
def test_html_is_well_formed_and_its_scripts_are_modules(block: Block, tmp_path: Path) -> None:
    engines["django"].from_string(block.text)
    for script in re.findall(r"<script type=\"module\">(.*?)</script>", block.text, re.DOTALL):
        _check_module(script, tmp_path)
    void = {"meta", "link", "img", "input", "br"}
    stack: list[str] = []
    for closing, tag in re.findall(
        r"<(/?)(\w+)", re.sub(r"(?s)<script.*?</script>", "", block.text)
    ):
        if closing:
            assert stack.pop() == tag
        elif tag not in void:
            stack.append(tag)
    assert not stack


def _check_module(text: str, folder: Path) -> None:
    file = folder / "block.mjs"
    file.write_text(text)
    done = subprocess.run(
        [program("node", called="Node.js"), "--check", file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_a_frame_is_one_that_the_protocol_knows(block: Block) -> None:
    for line in re.split(r"\n(?=\{)", block.text.strip()):
        frame = json.loads(line)
        if frame["type"] in protocol.TYPES and "status" not in frame and frame != {"type": "pong"}:
            if frame["type"] == "pong":
                assert protocol.pong(frame["uid"]) == _compact(frame)
            else:
                protocol.decode(line)
                members = {type(protocol.decode(line)).__struct_fields__}
                assert set(frame) - {"type"} <= set(*members)
            continue
        assert _compact(frame) == _said_by_the_server(frame)


def _said_by_the_server(frame: dict[str, Any]) -> str:
    match frame:
        case {"type": "pong"}:
            return protocol.pong(frame.get("uid", protocol.UNSET))
        case {"type": "auth", "status": "ok"}:
            return protocol.authenticated(frame.get("uid"))
        case {"status": "error", "type": kind, "error": {"code": code, "message": message}}:
            [error] = [error for error in _errors() if error.code == code]
            problem = exceptions.LiveError(message)
            problem.code = error.code
            return protocol.error(kind, problem, frame.get("uid"))
        case {"type": "subscription", "event": event}:
            return protocol.subscription(
                event,
                uid=frame.get("uid"),
                data=_compact(frame["data"]) if "data" in frame else None,
                cursor=frame.get("cursor"),
                reset=frame.get("reset"),
                total_count=frame["meta"]["total_count"] if "meta" in frame else None,
                reconnect_seconds=frame.get("reconnect_seconds"),
            )
        case _:
            raise AssertionError(f"no frame of the protocol: {frame}")


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


@pytest.mark.parametrize("block", of("console"), ids=str)
def test_console_blocks_are_commands_of_this_project_or_of_everybody(block: Block) -> None:
    known = {
        "cd",
        "cp",
        "curl",
        "make",
        "mkdir",
        "pip",
        "python",
        "python3",
        "source",
        "uvicorn",
        "wagtail",
    }
    commands = commands_of(block)
    assert commands
    for command in commands:
        assert command.split()[0] in known, command
        if command.startswith("uvicorn"):
            _check_uvicorn(command)


def commands_of(block: Block) -> list[str]:
    return re.findall(r"^\$ (.*)$", block.text.replace("\\\n", ""), re.MULTILINE)


def _check_uvicorn(command: str) -> None:
    known = {option for parameter in uvicorn.main.params for option in parameter.opts}
    assert set(re.findall(r"(--[\w-]+)", command)) <= known


# What the blocks do.


@pytest.mark.django_db
def test_the_policy_of_the_reference_hides_what_it_says(settings: Any) -> None:
    Author.objects.create(name="Ada Quill", role="Editor")
    module = types.ModuleType("a_policy_of_the_docs")
    exec(named("policy-example").text, vars(module))  # noqa: S102  # our own page
    sys.modules[module.__name__] = module
    settings.WAGTAIL_LIVE_POLICY = f"{module.__name__}.NewsroomPolicy"
    query = events.Query("authors")
    [public] = Representation(query, events.Audience()).snapshot().rows
    [member] = Representation(query, events.Audience(authenticated=True)).snapshot().rows
    assert "role" not in json.loads(public[1])
    assert json.loads(public[1])["name"] == "Ada Quill"
    assert json.loads(member[1])["role"] == "Editor"


def _run(name: str) -> types.ModuleType:
    """Return the block ``name`` as a module; what it calls ``newsroom`` is the example's."""
    module = types.ModuleType(f"the_{name.replace('-', '_')}_of_the_docs")
    sys.modules["newsroom"] = example_project.newsroom
    sys.modules["newsroom.models"] = example_project.newsroom.models
    try:
        exec(named(name).text, vars(module))  # noqa: S102  # our own page
    finally:
        del sys.modules["newsroom"], sys.modules["newsroom.models"]
    sys.modules[module.__name__] = module
    return module


@pytest.fixture
def paper() -> Iterator[newsroom.Newsroom]:
    yield newsroom.build()
    Site.clear_site_root_paths_cache()


def _titles(collection: str, audience: events.Audience) -> set[str]:
    rows = Representation(events.Query(collection), audience).snapshot().rows
    return {found.get("title") or found["name"] for _, text in rows if (found := json.loads(text))}


@pytest.mark.django_db
def test_the_members_area_of_the_docs_is_for_members(
    paper: newsroom.Newsroom, settings: Any
) -> None:
    article = ArticlePage.objects.get(pk=paper.tram.pk)
    article.categories = [Category.objects.create(name="Members", slug="members")]
    article.save()
    settings.WAGTAIL_LIVE_POLICY = f"{_run('policy-members').__name__}.MembersPolicy"
    public = events.Audience(site=paper.site.pk)
    member = replace(public, groups=(Group.objects.create(name="Members").pk,))
    assert _titles("pages", member) - _titles("pages", public) == {"Tram"}
    assert "Bells" in _titles("pages", public)


@pytest.mark.django_db
def test_the_tenants_of_the_docs_see_their_own_authors(
    paper: newsroom.Newsroom, settings: Any
) -> None:
    other = paper.root.add_child(instance=HomePage(title="Other", slug="other"))
    site = Site.objects.create(hostname="other.test", root_page=other)
    Author.objects.create(name="Nobody", live=True)
    path = f"{_run('policy-tenants').__name__}.TenantPolicy"
    settings.WAGTAIL_LIVE_POLICY = {"collections": {"authors": path}}
    assert _titles("authors", events.Audience(site=paper.site.pk)) == {"Inés"}
    assert _titles("authors", events.Audience(site=site.pk)) == set()
    assert _titles("authors", events.Audience()) == set()


@pytest.mark.django_db
def test_the_policy_of_the_docs_passes_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mysite", types.ModuleType("mysite"))
    monkeypatch.setitem(sys.modules, "mysite.policy", _run("policy-fields"))
    _run("policy-test").test_the_public_does_not_see_roles()


@pytest.mark.django_db
def test_the_rows_of_the_docs_are_their_owners(paper: newsroom.Newsroom, settings: Any) -> None:
    ines, max_ = (newsroom.add_user(name) for name in ("ines", "max"))
    ArticlePage.objects.filter(pk=paper.tram.pk).update(owner=ines)
    path = f"{_run('policy-owners').__name__}.OwnersPolicy"
    settings.WAGTAIL_LIVE_POLICY = {"collections": {"pages": path}}
    seen = {}
    for user in (AnonymousUser(), max_, ines):
        request = RequestFactory().get("/", headers={"host": "localhost"})
        request.user = user
        seen[user] = _titles("pages", policies.audience(request))
    assert list(seen.values()) == [set(), set(), {"Tram"}]


@pytest.mark.django_db
def test_the_drafts_of_the_docs_are_their_owners(paper: newsroom.Newsroom) -> None:
    policy_class = _run("policy-drafts").OwnDraftsPolicy
    one, other = (newsroom.add_user(name, is_superuser=True) for name in ("one", "other"))
    page = ArticlePage.objects.get(pk=paper.tram.pk)
    page.owner = one
    asker = events.Audience(site=paper.site.pk, authenticated=True, superuser=True)
    assert policy_class("pages").can("draft", page, asker, one)
    assert not policy_class("pages").can("draft", page, asker, other)
    assert policy_class("pages").can("change", page, asker, other)
    assert not policy_class("pages").can("draft", page, asker)


@pytest.mark.django_db
def test_the_access_rule_of_the_docs_is_for_editors(paper: newsroom.Newsroom) -> None:
    public = events.Audience(site=paper.site.pk)
    assert _titles("authors", public) == {"Inés"}
    editors, _ = Group.objects.get_or_create(name="Editors")
    _run("access-rule")
    assert _titles("authors", replace(public, groups=(editors.pk,))) == {"Inés"}
    with pytest.raises(exceptions.Forbidden):
        _titles("authors", public)


def test_the_setting_of_the_reference_has_a_form_that_is_understood(settings: Any) -> None:
    names: dict[str, Any] = {}
    exec(named("policy-setting").text, names)  # noqa: S102  # our own page
    settings.WAGTAIL_LIVE_POLICY = names["WAGTAIL_LIVE_POLICY"]
    assert {kind for kind, _ in conf.policy_paths()} == {"default", "sites", "collections"}


@pytest.mark.usefixtures("committed")
async def test_the_test_of_the_reference_passes() -> None:
    names: dict[str, Any] = {}
    exec(named("testing-example").text, names)  # noqa: S102  # our own page
    await names["test_a_new_notice_is_told"]()
    await relay.current().close()
    await database.disconnect()


MINIMAL_SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = "only for this test"
ROOT_URLCONF = "mysite.urls"
ALLOWED_HOSTS = ["*"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
USE_TZ = True
WAGTAIL_SITE_NAME = "A site"
WAGTAILADMIN_BASE_URL = "http://localhost:8000"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
INSTALLED_APPS = [
    "wagtail.embeds", "wagtail.sites", "wagtail.users", "wagtail.snippets", "wagtail.documents",
    "wagtail.images", "wagtail.search", "wagtail.admin", "wagtail", "modelcluster", "taggit",
    "django_filters", "django.contrib.auth", "django.contrib.contenttypes",
    "django.contrib.sessions", "django.contrib.messages", "django.contrib.staticfiles",
]
"""

MINIMAL_URLS = """
from django.urls import include, path
from wagtail import urls as wagtail_urls
from wagtail.admin import urls as wagtailadmin_urls

urlpatterns = [
    path("admin/", include(wagtailadmin_urls)),
    path("", include(wagtail_urls)),
]
"""


#: Tables are made as the models are: ten times as fast.
WITHOUT_MIGRATIONS = Block(
    Path(__file__),
    0,
    "python",
    """
class WithoutMigrations(dict):
    def __contains__(self, app): return True
    def __getitem__(self, app): return None

MIGRATION_MODULES = WithoutMigrations()
""",
    caption="mysite/settings.py, at the end",
)


class Project:
    """A Wagtail site in a folder of its own, to which pages add what they say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, block: Block) -> None:
        """Do to the site's files what ``block`` shows."""
        path, _, where = (block.caption or block.text.splitlines()[0].lstrip("# ")).partition(", ")
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if block.added:
            file.write_text(_with_added_lines(file.read_text(), block))
        elif where == "at the end":
            file.write_text(file.read_text() + "\n" + block.text)
        else:
            file.write_text(block.text)

    def run(self, command: str) -> str:
        done = subprocess.run(  # noqa: S602 - the commands of our own pages
            command,
            shell=True,
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                command.split(), cwd=self.folder, env=self.environment(), stdout=log, stderr=log
            )

    def environment(self) -> dict[str, str]:
        """Return this process's environment, its programs first, without its project."""
        programs = str(Path(sys.executable).parent)
        mine = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
        return {
            **mine,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}",
            "DJANGO_SUPERUSER_USERNAME": "admin",
            "DJANGO_SUPERUSER_PASSWORD": "a-password-for-this-test",
            "DJANGO_SUPERUSER_EMAIL": "admin@example.com",
        }


def _with_added_lines(text: str, block: Block) -> str:
    """Put the marked lines of ``block`` before the line of the file that follows them."""
    shown = block.text.splitlines()
    lines = text.splitlines()
    for number, line in enumerate(shown, start=1):
        if number not in block.added:
            assert line in lines or not line, f"{block}: the file has no line {line!r}"
            continue
        following = next(
            later
            for at, later in enumerate(shown[number:], start=number + 1)
            if later and at not in block.added
        )
        lines.insert(lines.index(following), line)
    return "\n".join(lines) + "\n"


@pytest.fixture
def minimal(tmp_path: Path) -> Project:
    """A site without the package."""
    project = Project(tmp_path)
    (tmp_path / "mysite").mkdir()
    (tmp_path / "mysite" / "__init__.py").touch()
    (tmp_path / "mysite" / "settings.py").write_text(MINIMAL_SETTINGS)
    (tmp_path / "mysite" / "urls.py").write_text(MINIMAL_URLS)
    (tmp_path / "manage.py").write_text(
        "import os, sys\n"
        "from django.core.management import execute_from_command_line\n"
        'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")\n'
        "execute_from_command_line(sys.argv)\n"
    )
    return project


@pytest.mark.parametrize("where", ["README.md", "docs/how-to/add-to-a-site.md"])
def test_a_site_with_these_lines_passes_its_checks_and_is_an_asgi_application(
    minimal: Project, where: str
) -> None:
    for block in blocks_of(ROOT / where):
        if block.language == "python" and (block.caption or block.text).startswith(
            ("mysite", "# ")
        ):
            minimal.write(block)
    assert "no issues" in minimal.run("python manage.py check --fail-level WARNING")
    said = minimal.run("python -c 'from mysite.asgi import application; print(application)'")
    assert "ProtocolTypeRouter" in said


def test_the_settings_for_a_deployment_pass_the_checks(minimal: Project) -> None:
    pages = [DOCS / "how-to" / "add-to-a-site.md", DOCS / "how-to" / "deploy.md"]
    for block in [block for path in pages for block in blocks_of(path)]:
        if block.language == "python":
            at_the_end = ", at the end" if block.page.name == "deploy.md" else ""
            minimal.write(replace(block, caption=block.caption + at_the_end))
    assert "no issues" in minimal.run("python manage.py check --fail-level WARNING")
    said = minimal.run(
        """python manage.py shell --no-imports -c "from django.db import connection;"""
        """print(connection.cursor().execute('PRAGMA journal_mode').fetchone());"""
        """from channels.layers import get_channel_layer; print(get_channel_layer())" """
    )
    assert "wal" in said
    assert "RedisPubSubChannelLayer" in said


@pytest.mark.server
def test_the_client_in_python_is_told_what_there_is_and_what_changes(
    server: Server, tmp_path: Path
) -> None:
    script = tmp_path / "follow.py"
    script.write_text(named("python-client").text)
    with subprocess.Popen(
        [sys.executable, script, server.socket_url], stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout
        assert client.stdout.readline().startswith("init [{")
        server.shell(
            "from example_project.newsroom.models import ArticlePage as A;"
            "page = A.objects.live().public().first(); page.title = 'Told';"
            "page.save_revision().publish()"
        )
        told = client.stdout.readline()
        client.terminate()
    assert told.startswith("update [{")
    assert "'title': 'Told'" in told


@pytest.mark.server
def test_the_program_that_rebuilds_does_so_at_first_and_after_each_change(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "rebuild.py").write_text(named("rebuild-script").text)
    build = "print('built', flush=True)"
    with subprocess.Popen(
        [sys.executable, "rebuild.py", server.url, sys.executable, "-c", build],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout
        for number in range(2):
            assert program.stdout.readline() == "built\n"
            wait_until((tmp_path / "rebuild.cursor").exists, what="the cursor")
            server.shell(
                "from example_project.newsroom.models import ArticlePage as A;"
                f"page = A.objects.live().public().first(); page.title = 'Built {number}';"
                "page.save_revision().publish()"
            )
        assert program.stdout.readline() == "built\n"
        program.terminate()


@pytest.mark.server
def test_a_snippet_with_these_lines_has_an_endpoint_of_its_live_rows(minimal: Project) -> None:
    for name in ("add-to-a-site", "follow-a-snippet"):
        for block in blocks_of(DOCS / "how-to" / f"{name}.md"):
            if block.language == "python":
                minimal.write(block)
    (minimal.folder / "notices" / "__init__.py").touch()
    minimal.write(WITHOUT_MIGRATIONS)
    minimal.run("python manage.py migrate --run-syncdb -v0")
    asked = (
        "from django.test import Client; from notices.models import Notice;"
        "Notice.objects.create(text='Seen', level='info');"
        "Notice.objects.create(text='Draft', level='info', live=False);"
        "print([row['text'] for row in Client().get('/api/v2/notices/').json()['items']])"
    )
    assert minimal.run(f'python manage.py shell --no-imports -c "{asked}"').strip() == "['Seen']"


TUTORIAL = list(blocks_of(DOCS / "tutorial" / "first-live-page.md"))
TUTORIAL_COMMANDS = [
    command for block in TUTORIAL if block.language == "console" for command in commands_of(block)
]


@pytest.mark.server
def test_the_tutorial_leads_to_a_live_page(tmp_path: Path) -> None:
    project = Project(tmp_path)
    ports = {"8000": str(free_port()), "3000": str(free_port())}
    running = []
    try:
        for block in TUTORIAL:
            for documented, free in ports.items():
                block = replace(block, text=block.text.replace(documented, free))
            if block.language == "console":
                running += [project.start(one) for one in _tutorial(project, block)]
            else:
                project.write(block)
        _follow_the_tutorial_s_page(project, f"http://localhost:{ports['3000']}/")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(20)


def _tutorial(project: Project, block: Block) -> Iterator[str]:
    """Run the commands of ``block``; give those that serve, which go on."""
    for command in commands_of(block):
        if command.startswith(("mkdir first", "cd ", "python3 -m venv", "source ", "pip install")):
            continue  # here: a folder of the test's, and the environment that runs it
        if command.startswith(("uvicorn", "python -m http.server")):
            yield command
            port = re.search(r"\b\d{4,5}\b", command)
            wait_until(lambda port=port: answers(f"http://localhost:{port[0]}/"), what=command)
        elif "createsuperuser" in command:
            project.run(f"{command} --noinput")
        elif "shell -c" not in command:
            project.run(command)


def _follow_the_tutorial_s_page(project: Project, address: str) -> None:
    chromium = program("chromium", "chromium-browser", "google-chrome", called="Chromium")
    [publish] = [command for command in TUTORIAL_COMMANDS if "shell -c" in command]
    home = "from home.models import HomePage; home = HomePage.objects.first();"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        expect(page.locator("li")).to_have_text(["Home: "])
        project.run(publish)
        expect(page.locator("li")).to_have_text(["Home: From a shell"])
        project.run(
            f"""python manage.py shell -c "{home} child = HomePage(title='Child', intro='New');"""
            """home.add_child(instance=child)" """
        )
        expect(page.locator("li")).to_have_text(["Home: From a shell", "Child: New"])
        project.run(
            f"""python manage.py shell -c "{home} home.intro = 'Draft'; home.save_revision();"""
            """HomePage.objects.get(title='Child').unpublish()" """
        )
        expect(page.locator("li")).to_have_text(["Home: From a shell"])
        browser.close()
