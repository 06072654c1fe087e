"""Every change of who somebody is, and of what they may do, is heard; nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import Client, override_settings
from django.test.utils import isolate_apps
from django.utils import timezone
from wagtail import models as wagtail_models
from wagtail.models import Collection, GroupCollectionPermission, GroupPagePermission, Page

from tests.newsroom import add_user
from wagtail_live import head, history, impact, numbering, rights
from wagtail_live.events import Entry, Kind, Position
from wagtail_live.models import AccessRule

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]

APIToken: Any = getattr(wagtail_models, "APIToken", None)
Heard = Callable[[Callable[[], object]], list[tuple[str, str]]]


@pytest.fixture
def heard() -> Heard:
    """Run something and return whose rights it changed: (model, key)."""

    def run(action: Callable[[], object]) -> list[tuple[str, str]]:
        before = head.position().number
        action()
        while numbering.number():
            pass
        entries = history.read(before)
        return [(one.model, one.object_id) for one in entries if one.kind is Kind.RIGHTS]

    return run


@pytest.fixture
def ada() -> Any:
    return add_user("ada")


def about(one: Any) -> tuple[str, str]:
    return one._meta.label_lower, str(one.pk)


def test_a_user_that_is_saved_is_heard(ada: User, heard: Heard) -> None:
    def deactivate() -> None:
        ada.is_active = False
        ada.save()

    assert heard(deactivate) == [about(ada)]


def test_a_changed_password_is_heard(ada: User, heard: Heard) -> None:
    def change() -> None:
        ada.set_password("other")
        ada.save(update_fields=["password"])

    assert heard(change) == [about(ada)]


def test_signing_in_changes_nobodys_rights(ada: User, heard: Heard) -> None:
    """But it ends the session in which somebody was nobody."""
    told = heard(lambda: Client().force_login(ada))
    assert {model for model, _ in told} <= {"sessions.session"}


def test_a_new_user_is_not_heard(heard: Heard) -> None:
    assert heard(lambda: add_user("grace")) == []


def test_a_deleted_user_is_heard(ada: User, heard: Heard) -> None:
    gone = about(ada)
    assert heard(ada.delete) == [gone]


def test_what_is_rolled_back_is_not_heard(ada: User, heard: Heard) -> None:
    def change_and_fail() -> None:
        with pytest.raises(RuntimeError), transaction.atomic():
            ada.save()
            raise RuntimeError

    assert heard(change_and_fail) == []


def test_a_save_outside_a_transaction_is_announced_before_it(ada: User, heard: Heard) -> None:
    """Should the process die between the save and its entry, the change would never be told."""

    def save_and_die() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("wagtail_live.log.settle", lambda *_: None)
            ada.save()

    heard(save_and_die)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbering, "UNSETTLED_SECONDS", 0)
        assert heard(lambda: None) == [about(ada)]


@pytest.mark.parametrize("how", ["add", "remove", "set", "clear"])
def test_a_change_of_groups_is_heard_from_either_side(ada: User, heard: Heard, how: str) -> None:
    editors = Group.objects.get(name="Editors")
    before = [] if how == "add" else [editors]
    said = {"add": [editors], "remove": [editors], "set": [[]], "clear": []}[how]
    ada.groups.set(before)
    assert heard(lambda: getattr(ada.groups, how)(*said)) == [about(ada)]
    editors.user_set.set([ada] if before else [])
    said = {"add": [ada], "remove": [ada], "set": [[]], "clear": []}[how]
    expected = about(editors) if how == "clear" else about(ada)
    assert heard(lambda: getattr(editors.user_set, how)(*said)) == [expected]


def test_permissions_of_a_user_or_a_group_are_heard(ada: User, heard: Heard) -> None:
    editors = Group.objects.create(name="New editors")
    permission = Permission.objects.exclude(group=editors).first()
    assert permission is not None
    assert heard(lambda: ada.user_permissions.add(permission)) == [about(ada)]
    assert heard(lambda: editors.permissions.add(permission)) == [about(editors)]
    assert heard(lambda: permission.group_set.remove(editors)) == [about(editors)]
    assert heard(lambda: permission.user_set.clear()) == [("auth.permission", "")]


def test_a_deleted_group_is_heard(heard: Heard) -> None:
    group = Group.objects.create(name="Short-lived")
    gone = about(group)
    assert heard(group.delete) == [gone]


def test_permissions_on_pages_and_collections_are_heard_as_the_groups(heard: Heard) -> None:
    group = Group.objects.create(name="Town editors")
    add = Permission.objects.get(codename="add_image")
    change = Permission.objects.get(codename="change_page")
    page, collection = Page.objects.get(depth=1), Collection.objects.get(depth=1)

    def grant() -> None:
        GroupPagePermission.objects.create(group=group, page=page, permission=change)

    def grant_on_collection() -> None:
        GroupCollectionPermission.objects.create(group=group, collection=collection, permission=add)

    assert heard(grant) == [about(group)]
    assert heard(grant_on_collection) == [about(group)]
    assert heard(lambda: group.page_permissions.all().delete()) == [about(group)]


@pytest.mark.skipif(APIToken is None, reason="API tokens came with Wagtail 8")
def test_a_revoked_token_is_heard_and_one_that_is_used_is_not(ada: User, heard: Heard) -> None:
    token, _ = APIToken.create_token(user=ada, name="Build")

    def use() -> None:
        token.last_used_at = timezone.now()
        token.save(update_fields=["last_used_at"])

    assert heard(use) == []
    assert heard(token.revoke) == [about(token)]
    gone = about(token)
    assert heard(token.delete) == [gone]


def test_signing_out_is_heard_without_the_sessions_key(ada: User, heard: Heard) -> None:
    client = Client()
    client.force_login(ada)
    key = client.cookies["sessionid"].value
    told = heard(client.logout)
    assert set(told) == {("sessions.session", sha256(key.encode()).hexdigest())}


@override_settings(SESSION_ENGINE="django.contrib.sessions.backends.cache")
def test_signing_out_is_heard_where_no_table_keeps_the_sessions(ada: User, heard: Heard) -> None:
    client = Client()
    client.force_login(ada)
    key = client.cookies["sessionid"].value
    assert heard(client.logout) == [("sessions.session", sha256(key.encode()).hexdigest())]


def test_a_session_that_is_ended_by_hand_is_heard(ada: User, heard: Heard) -> None:
    Client().force_login(ada)
    [session] = Session.objects.all()
    named = sha256(session.session_key.encode()).hexdigest()
    assert heard(Session.objects.all().delete) == [("sessions.session", named)]


def test_sessions_that_have_expired_are_cleared_quietly(ada: User, heard: Heard) -> None:
    Client().force_login(ada)
    Session.objects.update(expire_date=timezone.now() - timedelta(days=1))
    assert heard(Session.objects.all().delete) == []


def test_a_proxy_of_the_user_is_the_user(ada: User, heard: Heard) -> None:
    with isolate_apps("example_project.newsroom"):

        class Reader(User):
            class Meta:
                proxy = True
                app_label = "newsroom"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rights.apps, "get_models", lambda: [User, Reader])
        rights.connect()
    assert heard(Reader.objects.get(pk=ada.pk).save) == [about(ada)]


def test_a_rule_of_access_is_about_everybody_also_when_it_is_saved_by_itself(heard: Heard) -> None:
    everybody = [("wagtail_live.accessrule", "")]
    rule = AccessRule(collection="pages")
    assert heard(rule.save) == everybody
    assert heard(rule.save) == everybody
    assert heard(rule.delete) == everybody


def test_an_entry_about_somebody_touches_no_live_query() -> None:
    label = get_user_model()._meta.label_lower
    some = [
        Entry(Position(1, ""), Kind.RIGHTS, label, "1", None),
        Entry(Position(2, ""), Kind.RIGHTS, "sessions.session", "ab" * 32, None),
    ]
    assert impact.touched(some).steps == {}


def test_an_entry_about_everybody_touches_what_anybody_sees() -> None:
    found = impact.touched([Entry(Position(3, ""), Kind.RIGHTS, "auth.permission", "", None)])
    assert found.access["wagtailcore.page"] == 3
    assert found.steps["newsroom.notice"] == {3}
