"""Uploads, as long as no web server stands in front."""

import mimetypes
from pathlib import Path

from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.utils._os import safe_join


def media(request: HttpRequest, name: str) -> HttpResponse:
    """
    Answer with an uploaded file, read at once.

    Documents are left to Wagtail's own view, which asks for their restrictions. Django's `serve`
    streams synchronously, which ASGI servers do not like.
    """
    try:
        path = Path(safe_join(settings.MEDIA_ROOT, name))
        documents = Path(safe_join(settings.MEDIA_ROOT, "documents"))
    except SuspiciousFileOperation as error:
        raise Http404 from error
    if documents in path.parents or not path.is_file():
        raise Http404
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    response = HttpResponse(path.read_bytes(), content_type=kind)
    response["Cache-Control"] = "max-age=3600"
    return response
