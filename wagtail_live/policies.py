"""
Which policy answers: a collection's own before its site's, and that before the site-wide default.

Blocking, as policies are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from django.http import HttpRequest
from wagtail.models import Site

from wagtail_live import conf, rules, tickets
from wagtail_live.events import Audience
from wagtail_live.policy import Policy
from wagtail_live.rules import Rule


def audience(request: HttpRequest) -> Audience:
    """Return who asks: to the site's policy, and to those of collections that look at more."""
    hosts = _hosts(Site.find_for_request(request)) if _by_site() else ()
    general = conf.policy(hosts=hosts)
    found = _limited(general().audience(request), request)
    others = []
    for kind, name in sorted(conf.policy_paths()):
        own = conf.policy(name) if kind == "collections" else general
        if own.audience is not general.audience:
            to_it = _limited(own(name).audience(request), request)
            others.append((name, replace(to_it, by_collection=())))
    return replace(found, by_collection=tuple(one for one in others if one[1] != found))


def asker(audience: Audience, collection: str) -> Audience:
    """Return who ``audience`` is to the policy of ``collection``."""
    return dict(audience.by_collection).get(collection, audience)


class Policies:
    """The policies of one evaluation, by collection."""

    def __init__(
        self, audience: Audience, look_up: Callable[[], Iterable[Rule]] = rules.read
    ) -> None:
        self._audience = audience
        self._look_up = look_up
        self._found: dict[str, tuple[Policy, Audience]] = {}
        self._site_hosts: tuple[str, ...] | None = None

    def of(self, collection: str) -> tuple[Policy, Audience]:
        """Return the policy of ``collection`` and who asks it; no name is for what has no own."""
        if collection not in self._found:
            made = conf.policy(collection, self._hosts())
            policy: Policy = made(collection, self._look_up)
            self._found[collection] = policy, asker(self._audience, collection)
        return self._found[collection]

    def _hosts(self) -> tuple[str, ...]:
        if self._site_hosts is None:
            site = Site.objects.filter(pk=self._audience.site).first() if _by_site() else None
            self._site_hosts = _hosts(site)
        return self._site_hosts


def _limited(found: Audience, request: HttpRequest) -> Audience:
    """What was brought limits who it is, whatever a policy of the site's own makes of the asker."""
    auth = getattr(request, "auth", None)
    token, collections = tickets.token_behind(auth), tickets.collections_of(auth)
    return replace(found, token=token, collections=collections)


def _by_site() -> bool:
    return any(kind == "sites" for kind, _ in conf.policy_paths())


def _hosts(site: Site | None) -> tuple[str, ...]:
    """Return the names under which the setting may know ``site``, the most exact one first."""
    return () if site is None else (f"{site.hostname}:{site.port}", site.hostname)
