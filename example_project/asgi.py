"""The example site as an ASGI application: Django, and what wagtail_live keeps open beside it."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
http = get_asgi_application()  # sets Django up, which the imports below need

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - see above
from django.urls import re_path  # noqa: E402 - see above

from wagtail_live.routing import (  # noqa: E402 - see above
    http_urlpatterns,
    no_socket,
    websocket_urlpatterns,
)

application = ProtocolTypeRouter(
    {
        "http": URLRouter([*http_urlpatterns, re_path("", http)]),
        "websocket": URLRouter([*websocket_urlpatterns, re_path("", no_socket)]),
    }
)
