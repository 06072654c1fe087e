"""A worker of the writer that owns the snippets and images."""

from __future__ import annotations

import random
from typing import Any

from wagtail.images import get_image_model

from example_project.newsroom.models import Author, Notice
from tests.chaos.recorder import Effect, Recorder

MOST_NOTICES = 12


class Snippets:
    """Plain snippets, snippets with drafts, and titles of images."""

    def __init__(self, recorder: Recorder, chance: random.Random) -> None:
        self.recorder = recorder
        self.chance = chance

    def step(self) -> None:
        """Do one operation."""
        actions = [
            self.edit_notice,
            self.edit_notice,
            self.create_notice,
            self.delete_notice,
            self.publish_author,
            self.publish_author,
            self.draft_author,
            self.unpublish_author,
            self.rename_image,
        ]
        self.chance.choice(actions)()

    def finish(self) -> None:
        """Touch every object once more."""
        for notice in Notice.objects.all():
            self._write("notices", notice, "text", "barrier")
        for author in Author.objects.filter(live=True):
            self._publish(author)
        for image in get_image_model().objects.all():
            self._write("images", image, "title", "barrier")

    def edit_notice(self) -> None:
        notice = self._any(Notice)
        if notice is not None:
            self._write("notices", notice, "text", "edit notice")

    def create_notice(self) -> None:
        if Notice.objects.count() >= MOST_NOTICES:
            return
        version = self.recorder.version()
        effect: Effect = {"object": "?", "kind": "notice", "version": version, "live": True}

        def act() -> None:
            effect["object"] = f"notices:{Notice.objects.create(text=f'v{version} new').pk}"

        self.recorder.perform("create notice", [effect], act)

    def delete_notice(self) -> None:
        notice = self._any(Notice)
        if notice is not None and Notice.objects.count() > 2:
            effect = {"object": f"notices:{notice.pk}", "gone": True}
            self.recorder.perform("delete notice", [effect], notice.delete)

    def publish_author(self) -> None:
        author = self._any(Author)
        if author is not None:
            self._publish(author)

    def draft_author(self) -> None:
        author = self._any(Author)
        if author is not None:
            version = self.recorder.version()
            author.name = f"v{version} draft"
            effect = {"object": f"authors:{author.pk}", "draft": version}
            self.recorder.perform("draft author", [effect], author.save_revision)

    def unpublish_author(self) -> None:
        author = self._any(Author)
        if author is not None and author.live:
            effect = {"object": f"authors:{author.pk}", "live": False}
            self.recorder.perform("unpublish author", [effect], author.unpublish)

    def rename_image(self) -> None:
        image = self._any(get_image_model())
        if image is not None:
            self._write("images", image, "title", "rename image")

    def _publish(self, author: Author) -> None:
        version = self.recorder.version()
        author.name = f"v{version} author"
        effect = {"object": f"authors:{author.pk}", "version": version, "live": True}
        self.recorder.perform("publish author", [effect], lambda: author.save_revision().publish())

    def _write(self, collection: str, row: Any, field: str, operation: str) -> None:
        version = self.recorder.version()
        setattr(row, field, f"v{version} {collection}")
        effect = {"object": f"{collection}:{row.pk}", "version": version}
        atomic = self.chance.random() < 0.5
        self.recorder.perform(operation, [effect], row.save, atomic=atomic)

    def _any(self, model: Any) -> Any:
        rows = list(model.objects.order_by("pk"))
        return self.chance.choice(rows) if rows else None
