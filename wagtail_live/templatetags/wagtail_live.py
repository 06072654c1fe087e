"""The script of ``wagtail-live.js`` for templates that Django renders."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from django import template
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from wagtail_live.conf import settings

register = template.Library()

#: Where ``routing`` mounts the WebSocket; the browser completes it with the page's own host.
DEFAULT_URL = "/websocket"
#: Where the client looks for the event stream, beside the WebSocket.
EVENTS_URL = "live/events/"


@register.simple_tag
def wagtail_live_script(nonce: object = "") -> SafeString:
    """
    Return the script element that loads the client and follows what the page's markup names.

    The address is ``WAGTAIL_LIVE_WEBSOCKET_URL``, else ``/websocket`` on the page's own host. That
    of the event stream is added where ``wagtail_live.urls`` is mounted in another place than the
    client looks for it. There is no inline script; ``nonce`` serves a policy whose ``script-src``
    lists nonces only.
    """
    address = settings.websocket_url or DEFAULT_URL
    events = _events_url(address)
    # A nonce that nobody has asked for yet is false (Django's and django-csp's); its text is not.
    said = "" if nonce is None else str(nonce)
    return format_html(
        '<script type="module" src="{}" data-url="{}"{}{}></script>',
        static("wagtail_live/wagtail-live.js"),
        address,
        format_html(' data-events-url="{}"', events) if events else "",
        format_html(' nonce="{}"', said) if said else "",
    )


def _events_url(websocket_url: str) -> str | None:
    """Return the path of the event stream, or None where the client finds it by itself."""
    try:
        mounted = reverse("wagtail_live:events")
    except NoReverseMatch:
        return None
    found = urlsplit(urljoin(websocket_url, EVENTS_URL)).path
    return None if mounted == found else mounted
