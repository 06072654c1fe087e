"""The script of ``wagtail-live.js`` for templates that Django renders."""

from __future__ import annotations

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from wagtail_live.conf import settings

register = template.Library()

#: Where ``routing`` mounts the WebSocket; the browser completes it with the page's own host.
DEFAULT_URL = "/websocket"


@register.simple_tag
def wagtail_live_script(nonce: object = "") -> SafeString:
    """
    Return the script element that loads the client and follows what the page's markup names.

    The address is ``WAGTAIL_LIVE_WEBSOCKET_URL``, else ``/websocket`` on the page's own host. There
    is no inline script; ``nonce`` serves a policy whose ``script-src`` lists nonces only.
    """
    # A nonce that nobody has asked for yet is false (Django's and django-csp's); its text is not.
    said = "" if nonce is None else str(nonce)
    return format_html(
        '<script type="module" src="{}" data-url="{}"{}></script>',
        static("wagtail_live/wagtail-live.js"),
        settings.websocket_url or DEFAULT_URL,
        format_html(' nonce="{}"', said) if said else "",
    )
