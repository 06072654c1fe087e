"""The example site as an ASGI application: HTTP by Django, the WebSocket by wagtail_live."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
http = get_asgi_application()  # sets Django up, which the imports below need

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - see above

from wagtail_live.routing import websocket_urlpatterns  # noqa: E402 - see above

application = ProtocolTypeRouter({"http": http, "websocket": URLRouter(websocket_urlpatterns)})
