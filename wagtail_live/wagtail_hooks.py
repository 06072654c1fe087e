"""What Wagtail's admin gets from this app."""

from __future__ import annotations

from wagtail import hooks

from wagtail_live.access_admin import AccessRuleViewSet


@hooks.register("register_admin_viewset")  # type: ignore[untyped-decorator]  # Wagtail has no types
def access_rules() -> AccessRuleViewSet:
    """Return the views of Settings > Live access."""
    return AccessRuleViewSet()
