"""What the newsroom shows to other programs: by REST, and live."""

from wagtail.api.v2.router import WagtailAPIRouter
from wagtail.api.v2.views import PagesAPIViewSet
from wagtail.documents.api.v2.views import DocumentsAPIViewSet
from wagtail.images.api.v2.views import ImagesAPIViewSet

from example_project.newsroom.models import Author, Category, Notice
from wagtail_live.endpoints import snippet_endpoint

api_router = WagtailAPIRouter("wagtailapi")
api_router.register_endpoint("pages", PagesAPIViewSet)
api_router.register_endpoint("images", ImagesAPIViewSet)
api_router.register_endpoint("documents", DocumentsAPIViewSet)
api_router.register_endpoint("authors", snippet_endpoint(Author))
api_router.register_endpoint("categories", snippet_endpoint(Category))
api_router.register_endpoint("notices", snippet_endpoint(Notice))
