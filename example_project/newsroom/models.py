"""Content types of the newsroom."""

# ruff: noqa: RUF012 - Django and Wagtail declare a model in class attributes

from django import forms
from django.db import models
from django.http import HttpRequest
from django.utils import timezone
from modelcluster.contrib.taggit import ClusterTaggableManager
from modelcluster.fields import ParentalKey, ParentalManyToManyField
from taggit.models import TaggedItemBase
from wagtail.admin.panels import FieldPanel, InlinePanel, MultiFieldPanel, PublishingPanel
from wagtail.api import APIField
from wagtail.fields import StreamField
from wagtail.images.api.fields import ImageRenditionField
from wagtail.models import (
    DraftStateMixin,
    Orderable,
    Page,
    PreviewableMixin,
    RevisionMixin,
)
from wagtail.search import index
from wagtail.snippets.models import register_snippet

from example_project.newsroom.blocks import BodyBlock


@register_snippet
class Author(PreviewableMixin, DraftStateMixin, RevisionMixin, index.Indexed, models.Model):
    """Someone who writes. Has drafts: a change is public once it is published."""

    name = models.CharField(max_length=120)
    role = models.CharField(max_length=120, blank=True)
    bio = models.TextField(blank=True)
    portrait = models.ForeignKey(
        "wagtailimages.Image",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )

    panels = [
        FieldPanel("name"),
        FieldPanel("role"),
        FieldPanel("bio"),
        FieldPanel("portrait"),
        PublishingPanel(),
    ]
    search_fields = [
        index.SearchField("name"),
        index.SearchField("bio"),
        index.AutocompleteField("name"),
    ]
    api_fields = [
        APIField("name"),
        APIField("role"),
        APIField("bio"),
        APIField("portrait"),
        APIField(
            "portrait_thumbnail",
            serializer=ImageRenditionField("fill-160x160", source="portrait"),
        ),
    ]

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_preview_template(self, request, mode_name: str) -> str:
        return "newsroom/author_preview.html"


@register_snippet
class Notice(index.Indexed, models.Model):
    """A banner above every page. A plain snippet: what is saved is public."""

    class Level(models.TextChoices):
        INFO = "info", "Information"
        WARNING = "warning", "Warning"
        URGENT = "urgent", "Urgent"

    text = models.CharField(max_length=240)
    level = models.CharField(max_length=10, choices=Level, default=Level.INFO)
    link = models.URLField(blank=True)
    active = models.BooleanField(default=True)

    panels = [
        FieldPanel("text"),
        FieldPanel("level"),
        FieldPanel("link"),
        FieldPanel("active"),
    ]
    search_fields = [index.SearchField("text"), index.AutocompleteField("text")]
    api_fields = [APIField("text"), APIField("level"), APIField("link"), APIField("active")]

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.text


@register_snippet
class Category(index.Indexed, models.Model):
    name = models.CharField(max_length=80)
    slug = models.SlugField(unique=True)

    panels = [FieldPanel("name"), FieldPanel("slug")]
    search_fields = [index.SearchField("name"), index.AutocompleteField("name")]
    api_fields = [APIField("name"), APIField("slug")]

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class HomePage(Page):
    """The front page of one site in one language."""

    intro = models.CharField(max_length=200, blank=True)

    content_panels = [*Page.content_panels, FieldPanel("intro")]
    search_fields = [*Page.search_fields, index.SearchField("intro")]
    api_fields = [APIField("intro")]
    parent_page_types = ["wagtailcore.Page"]
    subpage_types = ["newsroom.SectionPage"]

    def get_context(self, request, *args, **kwargs) -> dict:
        context = super().get_context(request, *args, **kwargs)
        articles = ArticlePage.objects.descendant_of(self)
        return context | {"articles": readable(articles, request)[:12]}


class SectionPage(Page):
    """A part of the newspaper, such as Culture."""

    intro = models.CharField(max_length=200, blank=True)

    content_panels = [*Page.content_panels, FieldPanel("intro")]
    search_fields = [*Page.search_fields, index.SearchField("intro")]
    api_fields = [APIField("intro")]
    parent_page_types = ["newsroom.HomePage"]
    subpage_types = ["newsroom.ArticlePage"]

    def get_context(self, request, *args, **kwargs) -> dict:
        context = super().get_context(request, *args, **kwargs)
        articles = ArticlePage.objects.child_of(self)
        return context | {"articles": readable(articles, request)[:24]}


class ArticleTag(TaggedItemBase):
    content_object = ParentalKey(
        "newsroom.ArticlePage", related_name="tagged_items", on_delete=models.CASCADE
    )


class ArticlePage(Page):
    lead = models.TextField(help_text="One or two sentences under the headline.")
    date = models.DateTimeField("date and time", default=timezone.now)
    author = models.ForeignKey(
        Author, null=True, blank=True, on_delete=models.SET_NULL, related_name="articles"
    )
    categories = ParentalManyToManyField(Category, blank=True, related_name="articles")
    tags = ClusterTaggableManager(through=ArticleTag, blank=True)
    image = models.ForeignKey(
        "wagtailimages.Image",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    body = StreamField(BodyBlock(), blank=True)

    content_panels = [
        *Page.content_panels,
        FieldPanel("lead"),
        MultiFieldPanel(
            [
                FieldPanel("date"),
                FieldPanel("author"),
                FieldPanel("categories", widget=forms.CheckboxSelectMultiple),
                FieldPanel("tags"),
            ],
            heading="About this article",
        ),
        FieldPanel("image"),
        FieldPanel("body"),
        InlinePanel("related_links", label="related link", heading="Related links"),
    ]
    search_fields = [
        *Page.search_fields,
        index.SearchField("lead"),
        index.SearchField("body"),
        index.AutocompleteField("lead"),
        index.FilterField("date"),
    ]
    api_fields = [
        APIField("lead"),
        APIField("date"),
        APIField("author"),
        APIField("categories"),
        APIField("tags"),
        APIField("image"),
        APIField("image_teaser", serializer=ImageRenditionField("fill-800x450", source="image")),
        APIField("image_thumbnail", serializer=ImageRenditionField("fill-320x180", source="image")),
        APIField("body"),
        APIField("related_links"),
    ]
    parent_page_types = ["newsroom.SectionPage"]
    subpage_types: list[str] = []
    preview_modes = [("", "Article"), ("card", "In a list")]

    def get_preview_template(self, request, mode_name: str) -> str:
        return "newsroom/card_preview.html" if mode_name == "card" else self.template

    def get_context(self, request, *args, **kwargs) -> dict:
        context = super().get_context(request, *args, **kwargs)
        return context | {"section": self.get_parent()}


class RelatedLink(Orderable):
    page = ParentalKey(ArticlePage, on_delete=models.CASCADE, related_name="related_links")
    title = models.CharField(max_length=120)
    url = models.URLField("address")

    panels = [FieldPanel("title"), FieldPanel("url")]
    api_fields = [APIField("title"), APIField("url")]

    def __str__(self) -> str:
        return self.title


def readable(articles: models.QuerySet, request: HttpRequest) -> list[ArticlePage]:
    """
    Return the live ones among ``articles`` that this visitor may open, newest first.

    Asks each page: unlike ``.public()``, that includes what an alias inherits from its source.
    """
    newest_first = (
        articles.live()
        .select_related("image", "author")
        .prefetch_related("categories")
        .order_by("-date")
    )
    return [
        page
        for page in newest_first
        if all(rule.accept_request(request) for rule in page.get_view_restrictions())
    ]
