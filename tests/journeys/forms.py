"""The admin's form of an article, filled in, and an editor who sends it over real HTTP."""

from __future__ import annotations

import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from typing import Any

from django.utils import timezone
from wagtail.test.utils.form_data import inline_formset, nested_form_data, rich_text, streamfield


def article_form(slug: str, title: str, author: int) -> dict[str, Any]:
    """Return what the browser sends when an editor presses Publish."""
    data = {
        "title": title,
        "slug": slug,
        "lead": f"{title}, in short.",
        "date": timezone.now().strftime("%Y-%m-%d %H:%M"),
        "author": author,
        "categories": [],
        "tags": "",
        "image": "",
        "body": streamfield([("paragraph", rich_text("<p>Text</p>"))]),
        "related_links": inline_formset([]),
        "comments": inline_formset([]),
        "action-publish": "1",
    }
    form: dict[str, Any] = nested_form_data(data)
    return form


class HttpEditor:
    """Someone signed in at the admin of one server."""

    def __init__(self, url: str, name: str, password: str) -> None:
        self.url = url
        self.cookies = CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))
        self.opener.open(f"{url}/admin/login/").close()
        landed = self._post("login/", {"username": name, "password": password, "next": "/admin/"})
        assert "login" not in landed

    def publish(self, key: int, slug: str, title: str, author: int) -> None:
        """Change the article's title and publish it."""
        landed = self._post(f"pages/{key}/edit/", article_form(slug, title, author))
        assert not landed.endswith("/edit/"), "the form was not accepted"

    def _post(self, path: str, data: dict[str, Any]) -> str:
        token = next(one.value for one in self.cookies if one.name == "csrftoken")
        body = urllib.parse.urlencode({**data, "csrfmiddlewaretoken": token}, doseq=True).encode()
        with self.opener.open(f"{self.url}/admin/{path}", body, timeout=60) as response:
            landed: str = response.url
        return landed
