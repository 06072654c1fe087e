"""
Columns only: the log's entries, its head, the processes that ``status`` keeps, tickets, and the
rules that administrators make.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.db import models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from wagtail_live import conf


class Entry(models.Model):
    """
    One change. Written in the transaction that makes the change; numbered after it committed.

    ``model`` is a label, not a foreign key: an entry needs no look-up and outlives its content
    type. ``was`` is the visibility before the change, never content. An entry that is not
    ``settled`` was announced before its save outside a transaction, and the save has not ended.
    """

    id = models.BigAutoField(primary_key=True)
    position = models.BigIntegerField(null=True, unique=True, editable=False)
    uuid = models.UUIDField(default=uuid4, editable=False)
    kind = models.CharField(max_length=10)
    model = models.CharField(max_length=200)
    object_id = models.CharField(max_length=255, blank=True)
    was = models.JSONField(null=True)
    settled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.position}: {self.kind} {self.model} {self.object_id}"


class Head(models.Model):
    """
    The log's end and floor, in its only row. Whoever numbers entries holds its lock.

    ``position`` and ``uuid`` are those of the newest numbered entry, ``floor`` and ``floor_uuid``
    those of the newest pruned one; before the first, a random uuid.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    position = models.BigIntegerField(default=0)
    uuid = models.UUIDField(default=uuid4)
    floor = models.BigIntegerField(default=0)
    floor_uuid = models.UUIDField(default=uuid4)

    def __str__(self) -> str:
        return f"head at {self.position}, floor at {self.floor}"


class Process(models.Model):
    """
    What a process that serves subscribers said of itself when it was last seen.

    Renewed every few seconds, deleted at a clean end. ``status`` is the one that touches it.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=50)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)
    position = models.BigIntegerField()
    behind = models.BigIntegerField()
    sessions = models.PositiveIntegerField()
    live_queries = models.PositiveIntegerField()
    subscriptions = models.PositiveIntegerField()
    cut = models.JSONField(default=dict)
    bell = models.CharField(max_length=10)
    bell_error = models.CharField(max_length=200, blank=True)
    failures = models.PositiveIntegerField()
    failed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Ticket(models.Model):
    """
    What somebody may connect with once. ``tickets`` is the one that touches it.

    ``key_hash`` is the SHA-256 of the ticket. ``session`` is the key of the session that asked,
    sealed with the ticket itself, ``token`` the id of the access token that did. ``holder`` is the
    connection that redeemed it: the row stays, so that it can be asked again whether it counts.
    """

    id = models.BigAutoField(primary_key=True)
    key_hash = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey(conf.user_model(), on_delete=models.CASCADE, related_name="+")
    session = models.TextField(blank=True)
    token = models.BigIntegerField(null=True)
    origin = models.CharField(max_length=300, blank=True)
    collections = models.JSONField(null=True)
    created_at = models.DateTimeField()
    redeem_by = models.DateTimeField()
    ends_at = models.DateTimeField(db_index=True)
    holder = models.UUIDField(null=True)

    def __str__(self) -> str:
        return f"ticket {self.pk} of user {self.user_id}"


class AccessRule(models.Model):
    """
    What an administrator grants, to whom.

    ``limits`` names the columns that limited the rule when it was saved: a limit whose target has
    gone since is not no limit. ``token`` is the id of a Wagtail ``APIToken``; before Wagtail 8
    there is no such table.
    """

    class Who(models.TextChoices):
        EVERYBODY = "everybody", _("Everybody")
        GROUP = "group", _("A group")
        TOKEN = "token", _("An API token")

    who = models.CharField(_("who"), max_length=10, choices=Who, default=Who.EVERYBODY)
    group = models.ForeignKey(
        "auth.Group",
        verbose_name=_("group"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    token = models.PositiveBigIntegerField(_("API token"), null=True, blank=True)
    collection = models.CharField(_("collection"), max_length=200)
    events = models.JSONField(_("events"), default=list, blank=True)
    field_names = models.JSONField(_("fields"), default=list, blank=True)
    page = models.ForeignKey(
        conf.page_label(),
        verbose_name=_("page"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    site = models.ForeignKey(
        "wagtailcore.Site",
        verbose_name=_("site"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    locale = models.ForeignKey(
        "wagtailcore.Locale",
        verbose_name=_("language"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    drafts = models.BooleanField(_("drafts"), default=False)
    writing = models.BooleanField(_("writing"), default=False)
    active = models.BooleanField(_("active"), default=True)
    note = models.CharField(_("note"), max_length=255, blank=True)
    limits = models.JSONField(default=list, editable=False)

    LIMITING = ("page", "site", "locale")

    class Meta:
        verbose_name = _("access rule")
        verbose_name_plural = _("access rules")
        ordering = ("collection", "pk")

    def __str__(self) -> str:
        who = self.group or self.get_who_display()
        return f"{self.collection}: {who}"

    def save(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        self.limits = [name for name in self.LIMITING if getattr(self, f"{name}_id") is not None]
        using = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):  # what is told of it commits with it
            super().save(*args, using=using, **kwargs)
