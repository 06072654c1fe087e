"""What an article's body is made of, and how each part looks in the API."""

from typing import Any

from wagtail import blocks
from wagtail.images.blocks import ImageChooserBlock
from wagtail.snippets.blocks import SnippetChooserBlock


class PictureChooserBlock(ImageChooserBlock):
    """An image; the API gives it ready to show."""

    def get_api_representation(self, value: Any, context: Any = None) -> dict[str, Any] | None:
        if value is None:
            return None
        picture = value.get_rendition("width-1200")
        return {
            "id": value.pk,
            "title": value.title,
            "url": picture.full_url,
            "width": picture.width,
            "height": picture.height,
            "alt": value.default_alt_text,
        }


class PictureBlock(blocks.StructBlock):
    image = PictureChooserBlock()
    caption = blocks.CharBlock(required=False, max_length=200)

    class Meta:
        icon = "image"
        template = "newsroom/blocks/picture.html"


class QuoteBlock(blocks.StructBlock):
    text = blocks.TextBlock()
    attribution = blocks.CharBlock(required=False, max_length=120)

    class Meta:
        icon = "openquote"
        template = "newsroom/blocks/quote.html"


class AuthorChooserBlock(SnippetChooserBlock):
    """An author; hidden while the snippet is a draft, as in the authors endpoint."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("newsroom.Author", **kwargs)

    def get_api_representation(self, value: Any, context: Any = None) -> dict[str, Any] | None:
        if value is None or not value.live:
            return None
        portrait = value.portrait and value.portrait.get_rendition("fill-160x160")
        return {
            "id": value.pk,
            "name": value.name,
            "role": value.role,
            "bio": value.bio,
            "portrait": portrait.full_url if portrait else None,
        }

    class Meta:
        icon = "user"
        template = "newsroom/blocks/author.html"


class NoticeChooserBlock(SnippetChooserBlock):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__("newsroom.Notice", **kwargs)

    def get_api_representation(self, value: Any, context: Any = None) -> dict[str, Any] | None:
        if value is None or not value.active:
            return None
        return {"id": value.pk, "text": value.text, "level": value.level, "link": value.link}

    class Meta:
        icon = "warning"
        template = "newsroom/blocks/notice.html"


class BodyBlock(blocks.StreamBlock):
    heading = blocks.CharBlock(icon="title", template="newsroom/blocks/heading.html")
    paragraph = blocks.RichTextBlock(features=["bold", "italic", "link", "ol", "ul"])
    picture = PictureBlock()
    quote = QuoteBlock()
    author = AuthorChooserBlock()
    notice = NoticeChooserBlock()
