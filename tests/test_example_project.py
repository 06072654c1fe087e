"""The demo newsroom has what the journeys rely on, and shows the public no more than it should."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.http import Http404
from django.test import RequestFactory, TestCase
from wagtail.documents import get_document_model
from wagtail.images import get_image_model
from wagtail.models import Collection, Locale, Page, PageViewRestriction, Site

from example_project.frontend_server import frontend_server
from example_project.newsroom.models import (
    ArticlePage,
    Author,
    Category,
    HomePage,
    Notice,
    SectionPage,
)
from example_project.newsroom.seed import build
from example_project.newsroom.views import media
from tests.servers import ROOT, free_port

# Wagtail leaves the temporary file of a new rendition to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*FileIO name=:pytest.PytestUnraisableExceptionWarning"
)


def seed(*arguments: str) -> str:
    output = StringIO()
    call_command("seed_demo", *arguments, stdout=output)
    gc.collect()  # here, and not in a test that knows nothing of pictures
    return output.getvalue()


def restore_initial_rows() -> None:
    """Bring back what Wagtail's migrations made, should another test have flushed it."""
    ContentType.objects.clear_cache()
    Locale.objects.get_or_create(language_code="en")
    if not Page.objects.exists():
        Page.add_root(title="Root", slug="root")
    if not Collection.objects.exists():
        Collection.add_root(name="Root")
    access = Permission.objects.get(codename="access_admin")
    for name in ("Editors", "Moderators"):
        Group.objects.get_or_create(name=name)[0].permissions.add(access)


class TestSeed(TestCase):
    first_output: str

    @classmethod
    def setUpTestData(cls) -> None:
        restore_initial_rows()
        cls.first_output = seed()

    def api(self, path: str, **query: Any) -> Any:
        response = self.client.get(f"/api/v2/{path}/", query)
        assert response.status_code == 200, response.content
        return response.json()

    def english(self) -> Any:
        return ArticlePage.objects.filter(locale__language_code="en")

    def page(self, start: str) -> ArticlePage:
        return self.english().get(title__startswith=start, alias_of=None)

    # What is there

    def test_it_says_what_it_does(self) -> None:
        assert "articles with their pictures" in self.first_output
        assert "The demo content is ready." in self.first_output

    def test_a_second_run_changes_nothing(self) -> None:
        before = list(Page.objects.order_by("pk").values())
        with self.assertNumQueries(2):
            assert "there already" in seed()
        assert list(Page.objects.order_by("pk").values()) == before

    def test_a_second_run_lets_the_sites_follow_the_port(self) -> None:
        with self.settings(PORT=8765):
            seed()
        assert set(Site.objects.values_list("port", flat=True)) == {8765}

    def test_a_reset_builds_the_same_again(self) -> None:
        def content() -> list[Any]:
            return list(
                ArticlePage.objects.order_by("path").values_list("slug", "lead", "live", "date")
            )

        before = content()
        seed("--reset")
        assert content() == before
        assert User.objects.count() == 4

    def test_the_main_site_has_thirty_public_articles_in_five_sections(self) -> None:
        home = HomePage.objects.get(slug="home")
        sections = SectionPage.objects.child_of(home).live().public()
        assert sections.count() == 5
        public = self.english().live().public().descendant_of(home)
        assert len([page for page in public if not page.get_view_restrictions()]) == 30

    def test_every_article_is_complete(self) -> None:
        for page in ArticlePage.objects.select_related("image", "author"):
            assert page.image, page
            assert page.author, page
            assert len(page.lead) > 40, page
            assert len(page.body), page
            assert page.categories.exists(), page
            assert page.tags.exists(), page

    def test_every_kind_of_block_occurs(self) -> None:
        kinds = {block.block_type for page in ArticlePage.objects.all() for block in page.body}
        assert kinds == {"heading", "paragraph", "picture", "quote", "author", "notice"}

    def test_titles_and_leads_are_each_their_own(self) -> None:
        texts = [(page.title, page.lead) for page in self.english().filter(alias_of=None)]
        assert len(texts) == len({title for title, _ in texts}) == len({lead for _, lead in texts})

    def test_there_are_two_sites(self) -> None:
        sites = {site.hostname: site for site in Site.objects.all()}
        assert set(sites) == {"localhost", "gazette.localhost"}
        assert sites["localhost"].is_default_site
        gazette = sites["gazette.localhost"].root_page
        assert self.english().live().descendant_of(gazette).count() == 4

    def test_there_are_two_locales_with_translated_articles(self) -> None:
        german = ArticlePage.objects.filter(locale__language_code="de").live()
        assert german.count() == 6
        for page in german:
            assert page.get_translation(Locale.objects.get(language_code="en")).title != page.title

    def test_the_welcome_page_is_gone(self) -> None:
        assert set(Page.objects.filter(depth=2).values_list("slug", flat=True)) == {
            "home",
            "home-de",
            "gazette",
        }

    def test_snippets_are_there_and_one_author_is_a_draft(self) -> None:
        assert Author.objects.filter(live=True).count() == 4
        assert Author.objects.filter(live=False).count() == 1
        assert Notice.objects.filter(active=True).count() == 1
        assert Category.objects.count() >= 10

    def test_pictures_are_large_and_light(self) -> None:
        pictures = get_image_model().objects.filter(width=1600, height=900)
        assert pictures.count() >= 30
        assert all(picture.get_file_size() < 150_000 for picture in pictures)

    # Who may read what

    def test_the_users_can_sign_in(self) -> None:
        for name in build.USERS:
            assert self.client.login(username=name, password=build.PASSWORD), name

    def test_the_staff_reaches_the_admin_and_a_member_does_not(self) -> None:
        for name, status in (("admin", 200), ("editor", 200), ("moderator", 200), ("member", 302)):
            self.client.force_login(User.objects.get(username=name))
            assert self.client.get("/admin/").status_code == status, name

    def test_the_members_section_asks_for_a_login(self) -> None:
        section = SectionPage.objects.get(slug="members")
        assert self.english().child_of(section).count() == 3
        answer = self.client.get("/members/")
        assert answer.status_code == 302
        assert "/_util/login/" in answer["Location"]
        self.client.force_login(User.objects.get(username="member"))
        assert self.client.get("/members/").status_code == 200

    def test_one_page_has_a_password(self) -> None:
        [rule] = self.page("Embargoed").get_view_restrictions()
        assert rule.restriction_type == PageViewRestriction.PASSWORD
        assert rule.password == build.PAGE_PASSWORD

    def test_one_page_is_for_subscribers_and_the_member_is_one(self) -> None:
        [rule] = self.page("For subscribers").get_view_restrictions()
        assert [group.name for group in rule.groups.all()] == [build.SUBSCRIBERS]
        member = User.objects.get(username="member")
        assert [group.name for group in member.groups.all()] == [build.SUBSCRIBERS]

    def test_an_alias_in_a_public_section_is_restricted_like_its_source(self) -> None:
        [alias] = self.english().exclude(alias_of=None)
        assert alias.live
        assert alias.get_parent().slug == "town"
        assert not PageViewRestriction.objects.filter(page=alias).exists()
        assert list(alias.get_view_restrictions()) == list(
            alias.alias_of.specific.get_view_restrictions()
        )
        assert alias.title not in self.client.get("/").content.decode()

    def test_one_article_is_a_draft_and_one_is_scheduled(self) -> None:
        assert not self.page("Draft").live
        scheduled = self.page("Tomorrow")
        assert not scheduled.live
        assert scheduled.scheduled_revision is not None

    def test_one_document_is_private(self) -> None:
        assert get_document_model().objects.count() == 2
        listed = self.api("documents")
        assert [row["title"] for row in listed["items"]] == ["Tide tables"]

    # The API

    def test_every_endpoint_answers_the_public(self) -> None:
        for name in ("pages", "images", "documents", "authors", "categories", "notices"):
            assert self.api(name)["meta"]["total_count"] > 0, name

    def test_a_draft_author_is_not_listed(self) -> None:
        assert "Adaeze Winter" not in {row["name"] for row in self.api("authors")["items"]}

    def test_an_article_shows_all_its_fields(self) -> None:
        row = self.api(f"pages/{self.page('Seagrass').pk}")
        assert row["image_teaser"]["width"] == 800
        assert row["image_thumbnail"]["width"] == 320
        assert row["tags"] == ["diving", "harbour", "seagrass"]
        assert [link["title"] for link in row["related_links"]]
        parts = {part["type"]: part["value"] for part in row["body"]}
        assert parts["author"]["name"] == "Juno Hale"
        assert parts["picture"]["image"].keys() >= {"id", "url", "alt"}

    def test_the_front_end_s_own_queries_are_good(self) -> None:
        cards = self.api(
            "pages",
            type="newsroom.ArticlePage",
            locale="en",
            fields="lead,date,image_teaser,categories(name),author(name)",
            order="-date",
            limit=60,
        )
        assert cards["items"][0]["title"].startswith("Tidewell")
        assert self.api("notices", active="true", limit=10)["meta"]["total_count"] == 1

    def test_the_other_site_lists_its_own_pages(self) -> None:
        answer = self.client.get(
            "/api/v2/pages/?type=newsroom.ArticlePage", headers={"host": "gazette.localhost"}
        )
        assert answer.json()["meta"]["total_count"] == 4

    # Classic pages and the admin

    def test_every_public_page_renders(self) -> None:
        for page in Page.objects.live().public().filter(depth__gt=1).specific():
            if not page.get_view_restrictions():
                site = page.get_site()
                host = {"host": f"{site.hostname}:{site.port}"}
                address = page.relative_url(site)
                assert self.client.get(address, headers=host).status_code == 200, address

    def test_every_preview_mode_renders(self) -> None:
        page = self.page("Seagrass")
        for mode, _ in page.preview_modes:
            assert page.make_preview_request(preview_mode=mode).status_code == 200
        author = Author.objects.first()
        assert author.make_preview_request().status_code == 200

    def test_the_editor_s_forms_open(self) -> None:
        self.client.force_login(User.objects.get(username="admin"))
        for page in (self.page("Seagrass"), HomePage.objects.first(), SectionPage.objects.first()):
            assert self.client.get(f"/admin/pages/{page.pk}/edit/").status_code == 200
        for model in (Author, Notice, Category):
            name = model._meta.model_name
            row = model.objects.first()
            address = f"/admin/snippets/newsroom/{name}/edit/{row.pk}/"
            assert self.client.get(address).status_code == 200, address


def test_media_serves_pictures_but_no_documents(
    rf: RequestFactory, settings: Any, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = tmp_path
    for name in ("images/a.jpg", "documents/secret.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    answer = media(rf.get("/"), "images/a.jpg")
    assert (answer.content, answer["Content-Type"]) == (b"x", "image/jpeg")
    for name in ("documents/secret.txt", "images/../documents/secret.txt", "../../etc/passwd"):
        with pytest.raises(Http404):
            media(rf.get("/"), name)


# The front end's server


@pytest.fixture
def frontend() -> Iterator[str]:
    server = frontend_server(0, cms_port=8123)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/article.html?id=3", "text/html"),
        ("/app.js", "text/javascript"),
        ("/assets/style.css", "text/css"),
        ("/wagtail_live/wagtail-live.js", "text/javascript"),
        ("/config.json", "application/json"),
    ],
)
def test_the_front_end_serves_fresh_files_under_a_strict_policy(
    frontend: str, path: str, kind: str
) -> None:
    with urllib.request.urlopen(frontend + path) as answer:
        assert answer.headers.get_content_type() == kind
        assert answer.headers["Cache-Control"] == "no-cache"
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


def test_the_front_end_is_told_where_the_cms_is(frontend: str) -> None:
    with urllib.request.urlopen(f"{frontend}/config.json") as answer:
        assert json.load(answer) == {
            "cms": "http://localhost:8123",
            "websocket": "ws://localhost:8123/websocket",
        }


@pytest.mark.parametrize(
    "path", ["/assets/", "/wagtail_live/../settings.py", "/wagtail_live/%2e%2e/%2e%2e/setup.cfg"]
)
def test_the_front_end_serves_nothing_else(frontend: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(frontend + path)
    error.value.close()
    assert error.value.code == 404


# The demo runner


def start_demo(folder: Path, **environment: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "example_project/demo.py"],
        cwd=ROOT,
        env=os.environ
        | {"DATABASE_URL": f"sqlite:///{folder / 'demo.sqlite3'}", "NEWSROOM_VAR": str(folder)}
        | {name: str(value) for name, value in environment.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_demo_starts_on_kept_data_says_where_it_is_and_ends_on_a_signal(seeded: Path) -> None:
    port, frontend_port = free_port(), free_port()
    demo = start_demo(seeded, PORT=port, FRONTEND_PORT=frontend_port)
    lines = []
    try:
        for line in demo.stdout:
            lines.append(line)
            if "Ctrl+C" in line:
                break
        said = "".join(lines)
        assert "The demo content is there already." in said
        assert f"http://localhost:{frontend_port}/" in said
        for address in (
            f"http://localhost:{port}/static/wagtail_live/wagtail-live.js",
            f"http://localhost:{port}/admin/login/",
            f"http://localhost:{frontend_port}/",
        ):
            with urllib.request.urlopen(address) as answer:
                assert answer.status == 200
    finally:
        demo.send_signal(signal.SIGTERM)
        rest, _ = demo.communicate(timeout=30)
    assert demo.returncode == 0, said + rest
    for number in (port, frontend_port):
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://localhost:{number}/", timeout=2)


def test_the_demo_says_when_a_port_is_taken(frontend: str, tmp_path: Path) -> None:
    taken = frontend.rpartition(":")[2]
    demo = start_demo(tmp_path, PORT=free_port(), FRONTEND_PORT=taken)
    said, _ = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert said.startswith(f"Port {taken} is taken. Choose another one: FRONTEND_PORT=")
    assert "Traceback" not in said
