"""Addresses of the example site. Wagtail's own pages come last: they match everything."""

from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.views import LogoutView
from django.urls import include, path
from wagtail import urls as wagtail_urls
from wagtail.admin import urls as wagtailadmin_urls
from wagtail.documents import urls as wagtaildocs_urls

from example_project.api import api_router
from example_project.newsroom.views import media

urlpatterns = [
    path("admin/", include(wagtailadmin_urls)),
    path("api/v2/", api_router.urls),
    path("documents/", include(wagtaildocs_urls)),
    path("live/", include("wagtail_live.urls")),
    path("sign-out/", LogoutView.as_view(), name="sign_out"),
]
if settings.DEBUG:
    urlpatterns += [path("media/<path:name>", media)]
urlpatterns += i18n_patterns(path("", include(wagtail_urls)), prefix_default_language=False)
