"""Settings > Live access: who may make rules, what a rule may say, and that each is on record."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse
from wagtail.models import Locale, ModelLogEntry

from tests import newsroom
from tests.newsroom import Newsroom
from wagtail_live.access_admin import AccessRuleForm, AccessRuleViewSet
from wagtail_live.models import AccessRule

pytestmark = pytest.mark.django_db

RULE = {
    "who": "everybody",
    "group": "",
    "token": "",
    "collection": "authors",
    "events": ["create"],
    "field_names": ["authors.name", "authors.role"],
    "page": "",
    "site": "",
    "locale": "",
    "active": "on",
    "note": "A note",
}


@pytest.fixture
def news() -> Newsroom:
    return newsroom.build()


@pytest.fixture
def admin(news: Newsroom) -> Client:
    client = Client()
    client.force_login(newsroom.add_user("root", is_superuser=True))
    return client


def url(view: str, *args: Any) -> str:
    return reverse(f"live_access:{view}", args=args)


def mistakes(admin: Client, **fields: Any) -> set[str]:
    """Return the names of the fields that are refused."""
    answer = admin.post(url("add"), RULE | fields)
    assert not AccessRule.objects.exists()
    return set(answer.context["form"].errors)


def test_a_rule_is_made_changed_and_deleted_and_each_is_on_record(admin: Client) -> None:
    admin.post(url("add"), RULE)
    rule = AccessRule.objects.get()
    assert (rule.collection, rule.events, rule.field_names) == (
        "authors",
        ["create"],
        ["name", "role"],
    )
    form = admin.get(url("edit", rule.pk)).context["form"]
    assert form.initial["field_names"] == ["authors.name", "authors.role"]
    admin.post(url("edit", rule.pk), RULE | {"events": [], "active": ""})
    rule.refresh_from_db()
    assert (rule.events, rule.active) == ([], False)
    admin.post(url("delete", rule.pk))
    assert not AccessRule.objects.exists()
    actions = ModelLogEntry.objects.values_list("action", flat=True).order_by("pk")
    assert list(actions) == ["wagtail.create", "wagtail.edit", "wagtail.delete"]


def test_the_list_says_whom_and_what(admin: Client, news: Newsroom) -> None:
    group = Group.objects.create(name="Style desk")
    AccessRule.objects.create(collection="authors", who="group", group=group, note="Their screen")
    page = admin.get(url("index")).content.decode()
    assert "authors: Style desk" in page
    assert "Their screen" in page


def test_what_the_api_has_is_what_can_be_chosen(news: Newsroom) -> None:
    form = AccessRuleViewSet().get_form_class()()
    assert isinstance(form, AccessRuleForm)
    assert ("pages", "pages") in form.fields["collection"].choices
    by_collection = dict(form.fields["field_names"].choices)
    assert ("authors.bio", "bio") in by_collection["authors"]
    assert ("pages.lead", "lead") in by_collection["pages"]
    assert "id" not in dict(by_collection["pages"]).values()


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"collection": "nothing", "field_names": []}, {"collection"}),
        ({"events": ["explode"]}, {"events"}),
        ({"field_names": ["authors.password"]}, {"field_names"}),
        ({"field_names": ["pages.lead"]}, {"field_names"}),
        ({"who": "group"}, {"group"}),
        ({"who": "token"}, {"token"}),
        ({"who": "token", "token": "17"}, {"token"}),
    ],
)
def test_what_cannot_be_is_refused(admin: Client, fields: dict[str, Any], wrong: set[str]) -> None:
    assert mistakes(admin, **fields) == wrong


def test_a_limit_must_be_one_of_the_collection(admin: Client, news: Newsroom) -> None:
    locale = Locale.objects.get()
    assert mistakes(admin, page=news.town.pk) == {"page"}
    assert mistakes(admin, locale=locale.pk) == {"locale"}
    in_pages = {"collection": "pages", "field_names": [], "page": news.town.pk, "locale": locale.pk}
    admin.post(url("add"), RULE | in_pages)
    assert AccessRule.objects.get().limits == ["page", "locale"]


def test_what_is_for_everybody_is_for_no_group(admin: Client, news: Newsroom) -> None:
    group = Group.objects.create(name="Readers")
    admin.post(url("add"), RULE | {"group": group.pk})
    assert AccessRule.objects.get().group is None


def test_only_who_has_the_permission_may_look_or_change(news: Newsroom) -> None:
    user = newsroom.add_user("administrator")
    user.user_permissions.add(Permission.objects.get(codename="access_admin"))
    client = Client()
    client.force_login(user)
    assert client.post(url("add"), RULE).status_code == 302
    assert client.get(url("index")).status_code == 302
    assert not AccessRule.objects.exists()
    user.user_permissions.add(Permission.objects.get(codename="add_accessrule"))
    client.post(url("add"), RULE)
    assert AccessRule.objects.exists()


def test_groups_can_be_given_the_permissions(admin: Client) -> None:
    page = admin.get(reverse("wagtailusers_groups:add")).content.decode()
    assert "access rule" in page.lower()


def test_the_script_is_a_file(admin: Client) -> None:
    page = admin.get(url("add")).content.decode()
    assert '/wagtail_live/access-rule.js" type="module"></script>' in page
    assert page.count("<fieldset data-collection=") == 6
