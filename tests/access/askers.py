"""Who asks in the matrix of access: what each brings to REST, and what it brings to us."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.test import Client, RequestFactory
from wagtail.models import CollectionViewRestriction, PageViewRestriction

from tests.tokens import APIToken, token_of

PASSED = (
    PageViewRestriction.passed_view_restrictions_session_key,
    CollectionViewRestriction.passed_view_restrictions_session_key,
)


@dataclass
class Asker:
    """
    One person. ``browser`` asks REST; ``cookies`` and ``headers`` go with what follows.

    ``token`` is whether the person comes without a browser: then REST, which knows no tokens, is
    asked by a session of the same user.
    """

    browser: Client
    token: bool = False
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def cookies(self) -> dict[str, str]:
        found = self.browser.cookies.get("sessionid")
        return {} if self.token or found is None else {"sessionid": found.value}

    def request(self) -> HttpRequest:
        """Return the asker as Wagtail's own rules see it."""
        made: Any = RequestFactory().get("/", headers={"host": "localhost"})
        made.session = self.browser.session
        made.user = (
            get_user_model()
            .objects.filter(pk=made.session.get("_auth_user_id"), is_active=True)
            .first()
            or AnonymousUser()
        )
        return made


def public() -> Asker:
    return Asker(Client(HTTP_HOST="localhost"))


def signed_in(name: str) -> Asker:
    """A person with a session."""
    asker = public()
    asker.browser.force_login(get_user_model().objects.get(username=name))
    return asker


def switched_off(name: str) -> Asker:
    """A session of somebody who has been deactivated since."""
    asker = signed_in(name)
    get_user_model().objects.filter(username=name).update(is_active=False)
    return asker


def passed() -> Asker:
    """Nobody, but with the password of everything that has one."""
    asker = public()
    session = asker.browser.session
    for key, model in zip(PASSED, (PageViewRestriction, CollectionViewRestriction), strict=True):
        rules = model.objects.filter(restriction_type="password")
        session[key] = list(rules.values_list("pk", flat=True))
    session.save()
    return asker


def with_token(name: str) -> Asker:
    """A program with an API token of a person."""
    asker = signed_in(name)
    asker.token = True
    _, text = token_of(get_user_model().objects.get(username=name))
    asker.headers.append((b"authorization", f"Bearer {text}".encode()))
    return asker


def has_tokens() -> bool:
    return APIToken is not None
