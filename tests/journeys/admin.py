"""An editor at Wagtail's admin: every operation through the admin's own views and forms."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from wagtail.images import get_image_model
from wagtail.models import Page
from wagtail.test.utils.form_data import inline_formset, nested_form_data, rich_text, streamfield

from example_project.newsroom.models import ArticlePage, Author, Category, Notice, SectionPage

Operation = Callable[[], str]


class Editor:
    """A superuser who does one random thing after another, reproducibly."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.browser = Client()
        self.browser.force_login(get_user_model().objects.get(username="admin"))
        self.count = 0
        self.operations: list[Operation] = [
            self.edit_and_publish,
            self.edit_and_publish,
            self.save_draft,
            self.publish_new,
            self.unpublish,
            self.delete,
            self.move,
            self.reorder,
            self.copy,
            self.alias,
            self.restrict,
            self.lift_restriction,
            self.rename_section,
            self.edit_author,
            self.edit_notice,
            self.edit_category,
            self.edit_image,
            self.bulk_unpublish,
            self.bulk_publish,
            self.lock,
            self.schedule,
        ]

    def work(self) -> str:
        """Do something and say what."""
        self.count += 1
        return self.random.choice(self.operations)()

    def edit_and_publish(self) -> str:
        page = self._editable()
        self._edit(page, "action-publish")
        return f"publish {page.pk}"

    def save_draft(self) -> str:
        page = self._editable()
        self._edit(page)
        return f"draft of {page.pk}"

    def schedule(self) -> str:
        page = self._editable()
        self._edit(page, "action-publish", go_live_at="2099-01-01 12:00")
        return f"schedule {page.pk}"

    def publish_new(self) -> str:
        section = self._section()
        url = reverse("wagtailadmin_pages:add", args=("newsroom", "articlepage", section.pk))
        self._post(url, self._article_form(f"new-{self.count}") | {"action-publish": "1"})
        return f"new article in {section.pk}"

    def unpublish(self) -> str:
        page = self._article(live=True)
        self._post(reverse("wagtailadmin_pages:unpublish", args=(page.pk,)))
        return f"unpublish {page.pk}"

    def delete(self) -> str:
        page = self._article()
        self._post(reverse("wagtailadmin_pages:delete", args=(page.pk,)))
        return f"delete {page.pk}"

    def move(self) -> str:
        page, section = self._article(), self._section()
        if page.get_parent().pk == section.pk or section.get_children().filter(slug=page.slug):
            return self.publish_new()
        self._post(reverse("wagtailadmin_pages:move_confirm", args=(page.pk, section.pk)))
        return f"move {page.pk} to {section.pk}"

    def reorder(self) -> str:
        page = self._article()
        url = reverse("wagtailadmin_pages:set_page_position", args=(page.pk,))
        self._post(f"{url}?position=0", expected=200)
        return f"reorder {page.pk}"

    def copy(self) -> str:
        page = self._article()
        self._copy(page, alias=False)
        return f"copy {page.pk}"

    def alias(self) -> str:
        page = self._article(alias_of=None)
        self._copy(page, alias=True)
        return f"alias of {page.pk}"

    def restrict(self) -> str:
        page = self.random.choice([self._article(), self._section()])
        kind = self.random.choice(["login", "password"])
        data = {"restriction_type": kind, "password": "sesame", "groups": []}
        self._privacy(page, data)
        return f"restrict {page.pk} to {kind}"

    def lift_restriction(self) -> str:
        pages = Page.objects.filter(view_restrictions__isnull=False).order_by("pk")
        page = self._any(pages) or self._article()
        self._privacy(page, {"restriction_type": "none", "password": "", "groups": []})
        return f"open {page.pk}"

    def rename_section(self) -> str:
        section = self._section()
        data = {
            "title": f"{section.title[:20]} {self.count}",
            "slug": f"section-{self.count}",
            "intro": section.intro,
            "comments": inline_formset([]),
            "action-publish": "1",
        }
        self._post(reverse("wagtailadmin_pages:edit", args=(section.pk,)), nested_form_data(data))
        return f"rename section {section.pk}"

    def edit_author(self) -> str:
        author = self._any(Author.objects.order_by("pk"))
        data = {"name": f"Author {self.count}", "role": "Reporter", "bio": "-", "portrait": ""}
        action = self.random.choice(["action-publish", "action-publish", "draft"])
        url = reverse("wagtailsnippets_newsroom_author:edit", args=(author.pk,))
        self._post(url, data | {action: "1"})
        return f"author {author.pk}: {action}"

    def edit_notice(self) -> str:
        notice = self._any(Notice.objects.order_by("pk"))
        choice = self.random.choice(["add", "edit", "delete"]) if notice else "add"
        data = {"text": f"Notice {self.count}", "level": "info", "link": "", "active": "on"}
        args = () if choice == "add" else (notice.pk,)
        self._post(reverse(f"wagtailsnippets_newsroom_notice:{choice}", args=args), data)
        return f"notice: {choice}"

    def edit_category(self) -> str:
        category = self._any(Category.objects.order_by("pk"))
        data = {"name": f"Category {self.count}", "slug": category.slug}
        url = reverse("wagtailsnippets_newsroom_category:edit", args=(category.pk,))
        self._post(url, data)
        return f"category {category.pk}"

    def edit_image(self) -> str:
        image = self._any(get_image_model().objects.order_by("pk"))
        data = {
            "title": f"Picture {self.count}",
            "collection": image.collection_id,
            "description": "",
            "tags": "",
        }
        self._post(reverse("wagtailimages:edit", args=(image.pk,)), data)
        return f"image {image.pk}"

    def bulk_publish(self) -> str:
        return self._bulk("publish", {"include_descendants": ""})

    def bulk_unpublish(self) -> str:
        return self._bulk("unpublish", {"include_descendants": ""})

    def lock(self) -> str:
        page = self._article(locked=False)
        self._post(reverse("wagtailadmin_pages:lock", args=(page.pk,)))
        self._post(reverse("wagtailadmin_pages:unlock", args=(page.pk,)))
        return f"lock and unlock {page.pk}"

    def _any(self, rows: Any) -> Any:
        found = list(rows)
        return self.random.choice(found) if found else None

    def _article(self, **filters: Any) -> ArticlePage:
        page = self._any(ArticlePage.objects.filter(**filters).order_by("pk"))
        assert page is not None, filters
        return page

    def _editable(self) -> ArticlePage:
        """Return an article that no schedule and no source keeps from being edited."""
        pages = ArticlePage.objects.filter(alias_of=None).order_by("pk")
        page: ArticlePage = self._any(one for one in pages if one.get_lock() is None)
        return page

    def _section(self) -> SectionPage:
        section: SectionPage = self._any(SectionPage.objects.filter(alias_of=None).order_by("pk"))
        return section

    def _edit(self, page: ArticlePage, action: str = "", **fields: Any) -> None:
        form = self._article_form(page.slug, **fields) | ({action: "1"} if action else {})
        self._post(reverse("wagtailadmin_pages:edit", args=(page.pk,)), form)

    def _article_form(self, slug: str, **fields: Any) -> dict[str, Any]:
        image = self._any(get_image_model().objects.order_by("pk"))
        author = self._any(Author.objects.order_by("pk"))
        data = {
            "title": f"Article {self.count}",
            "slug": slug,
            "lead": f"What happened in round {self.count}.",
            "date": timezone.now().strftime("%Y-%m-%d %H:%M"),
            "author": author.pk,
            "categories": [self._any(Category.objects.order_by("pk")).pk],
            "tags": f'"tag {self.count % 5}"',
            "image": image.pk,
            "body": streamfield(
                [
                    ("paragraph", rich_text(f"<p>Round <b>{self.count}</b></p>")),
                    ("author", author.pk),
                ]
            ),
            "related_links": inline_formset(
                [{"title": f"Link {self.count}", "url": "https://example.com/"}]
            ),
            "comments": inline_formset([]),
        }
        return nested_form_data(data) | fields

    def _copy(self, page: ArticlePage, *, alias: bool) -> None:
        parent = self._section()
        data = {
            "new_title": f"Copy {self.count}",
            "new_slug": f"copy-{self.count}",
            "new_parent_page": str(parent.pk),
            "copy_subpages": False,
            "publish_copies": "on",
        }
        if alias:
            data["alias"] = "on"
        self._post(reverse("wagtailadmin_pages:copy", args=(page.pk,)), data)

    def _privacy(self, page: Page, data: dict[str, Any]) -> None:
        url = reverse("wagtailadmin_pages:set_privacy", args=(page.pk,))
        self._post(url, data, expected=200)

    def _bulk(self, action: str, data: dict[str, Any]) -> str:
        pages = [self._article(alias_of=None).pk for _ in range(3)]
        url = reverse("wagtail_bulk_action", args=("wagtailcore", "page", action))
        query = "&".join(f"id={pk}" for pk in pages)
        self._post(f"{url}?{query}", data)
        return f"bulk {action} {pages}"

    def _post(self, url: str, data: dict[str, Any] | None = None, expected: int = 302) -> None:
        response = self.browser.post(url, data or {})
        if response.status_code != expected:
            form = (response.context or {}).get("form")
            errors = form.errors.as_json() if form is not None else response.content[:2000]
            raise AssertionError(f"{url} answered {response.status_code}: {errors}")
