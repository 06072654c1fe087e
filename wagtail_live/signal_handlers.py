"""
Hear every change of content and state it as an entry; nothing else.

Wagtail's ``page_published`` and its like are not the source: they come after the save's own
transaction, or for a page that is not live, or not at all (a page created live by code, an alias).
The rows' own signals are: they come with the write, in its transaction. What is only bookkeeping
(draft saves, locks, autosave) is recognised by the columns it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from asgiref.local import Local
from django.db import connections
from django.db.models import Model, QuerySet
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from treebeard import mp_tree
from wagtail.models import (
    Collection,
    CollectionViewRestriction,
    DraftStateMixin,
    Locale,
    PageViewRestriction,
    ReferenceIndex,
    Site,
    TranslatableMixin,
)
from wagtail.signals import post_page_move, pre_page_move

from wagtail_live import log
from wagtail_live.content import (
    base_model,
    content_models,
    page_model,
    parental_key,
)
from wagtail_live.events import Kind

#: Columns that say something about editing, not about what a reader sees.
BOOKKEEPING = frozenset(
    {
        "approved_schedule",
        "draft_title",
        "expire_at",
        "go_live_at",
        "has_unpublished_changes",
        "last_published_at",
        "latest_revision",
        "latest_revision_created_at",
        "latest_revision_id",
        "live_revision",
        "live_revision_id",
        "locked",
        "locked_at",
        "locked_by",
        "locked_by_id",
        "numchild",
        "wagtail_admin_comments",
    }
)

#: Where pages were that are being moved by this thread or task: path by primary key.
_moving = Local()


def connect() -> None:
    """Connect the receivers; called once, when all apps are ready."""
    for model in content_models():
        if parental_key(model) is not None:
            _connect(model, {post_save: child_saved, post_delete: child_deleted})
        else:
            _connect(model, {pre_save: before_save, post_save: saved, pre_delete: before_delete})
        for field in model._meta.many_to_many:
            through: Any = field.remote_field.through
            _connect(through, {m2m_changed: relation_changed})
    for restriction in (PageViewRestriction, CollectionViewRestriction):
        _connect(restriction, {pre_save: restricting, post_save: saved, pre_delete: unrestricting})
        _connect(restriction.groups.through, {m2m_changed: restriction_groups_changed})
    for model in (Site, Locale):
        _connect(model, {pre_save: site_changing, post_save: saved, pre_delete: site_changing})
    _connect(Collection, {pre_save: collection_changing, post_save: saved})
    pre_page_move.connect(before_move, dispatch_uid="wagtail_live")
    post_page_move.connect(moved, dispatch_uid="wagtail_live")
    path_updated = getattr(mp_tree, "path_updated", None)  # treebeard 5
    if path_updated is not None:
        path_updated.connect(collection_moved, sender=Collection, dispatch_uid="wagtail_live")


def _connect(sender: type[Model], receivers: Mapping[Any, Callable[..., None]]) -> None:
    for signal, receiver in receivers.items():
        signal.connect(receiver, sender=sender, dispatch_uid=f"wagtail_live.{receiver.__name__}")


def before_save(
    sender: type[Model],
    instance: Any,
    raw: bool,
    using: str,
    update_fields: Iterable[str] | None,
    **kwargs: Any,
) -> None:
    """A row is about to be written: note what it was."""
    if _is_bookkeeping(update_fields):
        return
    if raw or instance._state.adding or instance.pk is None:
        # In a transaction ``saved`` appends: only then is there a key.
        if not connections[using].in_atomic_block and _may_be_live(instance):
            model = sender if raw else _specific(instance)  # a fixture's page may lack its type
            log.state(instance, Kind.SAVE, model, instance.pk or "", using=using)
        return
    was = _was(instance)
    if was is not _NOT_CONTENT:
        log.state(instance, Kind.SAVE, _specific(instance), instance.pk, was=was, using=using)


def saved(
    sender: type[Model],
    instance: Any,
    raw: bool,
    created: bool,
    using: str,
    update_fields: Iterable[str] | None,
    **kwargs: Any,
) -> None:
    """A row was written."""
    if log.stated(instance):
        return
    if (created or raw) and sender in content_models() and _may_be_live(instance):
        log.append(Kind.SAVE, sender if raw else _specific(instance), instance.pk, using=using)


def before_delete(
    sender: type[Model], instance: Any, using: str, origin: Any = None, **kwargs: Any
) -> None:
    """
    A row is about to be deleted. A page goes with its whole subtree, and a row of several tables
    is heard several times: all that is deleted together is one entry.
    """
    together = isinstance(origin, QuerySet) and base_model(origin.model) is base_model(sender)
    if together:
        if getattr(origin, "_wagtail_live_heard", False):
            return
        origin._wagtail_live_heard = True
        gone = [_gone(one) for one in origin.all()]
    else:
        gone = [_gone(instance)]
    keys = [one["pk"] for one in gone]
    if issubclass(sender, page_model()):
        _note_restrictions(gone)
    log.append(
        Kind.DELETE,
        base_model(sender),
        instance.pk,
        was={"objects": gone, "used_by": _used_by(base_model(sender), keys)},
        using=using,
    )


def child_saved(sender: type[Model], instance: Any, using: str, **kwargs: Any) -> None:
    """A child object was written: its parent changed."""
    _parent_changed(sender, instance, using)


def child_deleted(
    sender: type[Model], instance: Any, using: str, origin: Any = None, **kwargs: Any
) -> None:
    """A child object was deleted by itself, not along with its parent."""
    if _model_of(origin) is sender:
        _parent_changed(sender, instance, using)


def relation_changed(
    sender: type[Model],
    instance: Any,
    action: str,
    reverse: bool,
    model: type[Model],
    pk_set: set[Any] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """Many-to-many rows changed: the side that declares the relation did."""
    if action not in {"post_add", "post_remove", "post_clear"}:
        return
    if not reverse:
        if type(instance) in content_models() and _may_be_live(instance):
            _row_changed(_specific(instance), instance.pk, using)
    elif model in content_models() and pk_set is None:
        log.append(Kind.SAVE, model, using=using)
    elif model in content_models():
        for key in pk_set or ():
            _row_changed(model, key, using)


def restricting(sender: type[Model], instance: Any, using: str, **kwargs: Any) -> None:
    """A view restriction is about to be written. Its groups follow, in a step of their own."""
    model, key, was = _restricted(instance)
    log.state(instance, Kind.ACCESS, model, key, was=was, using=using)


def unrestricting(
    sender: type[Model], instance: Any, using: str, origin: Any = None, **kwargs: Any
) -> None:
    """A view restriction is about to be deleted; one that goes with its page says nothing new."""
    if _model_of(origin) is sender:
        model, key, was = _restricted(instance)
        log.append(Kind.ACCESS, model, key, was=was, using=using)


def restriction_groups_changed(instance: Any, action: str, using: str, **kwargs: Any) -> None:
    """The groups of a view restriction are about to change."""
    if action.startswith("pre_") and isinstance(
        instance, PageViewRestriction | CollectionViewRestriction
    ):
        model, key, was = _restricted(instance)
        log.append(Kind.ACCESS, model, key, was=was, using=using)


def site_changing(sender: type[Model], instance: Any, using: str, **kwargs: Any) -> None:
    """A site or locale is about to change: every address and tree may differ."""
    if "raw" in kwargs:  # a save; a delete has its transaction
        log.state(instance, Kind.SITE, sender, instance.pk or "", using=using)
    else:
        log.append(Kind.SITE, sender, instance.pk, using=using)


def collection_changing(instance: Collection, using: str, **kwargs: Any) -> None:
    """A collection is about to be written; it may get other restrictions above it."""
    log.state(instance, Kind.ACCESS, Collection, instance.pk or "", using=using)


def collection_moved(sender: type[Model], using: str, **kwargs: Any) -> None:
    """A collection was moved in its tree."""
    log.append(Kind.ACCESS, Collection, "", using=using)


def before_move(instance: Any, **kwargs: Any) -> None:
    """A page is about to move: its row has the new path before it is saved."""
    paths = getattr(_moving, "paths", None)
    if paths is None:
        paths = _moving.paths = {}
    paths[instance.pk] = instance.path


def moved(instance: Any, **kwargs: Any) -> None:
    """The move is over."""
    getattr(_moving, "paths", {}).pop(instance.pk, None)


class _NotContent(dict[str, Any]):
    """Marks a save that no reader can notice."""


_NOT_CONTENT = _NotContent()


def _was(instance: Any) -> Mapping[str, Any] | log.Was | None:
    """Return what the row is before the save; the entry's insert looks it up where it can."""
    model = type(instance)
    rows = model._base_manager.filter(pk=instance.pk)
    columns = _visibility_columns(model)
    path = getattr(_moving, "paths", {}).get(instance.pk)
    if path is None and _may_be_live(instance):
        return _looked_up(model, instance.pk)
    before = rows.values(*columns).first()
    if before is None:
        return None
    if path is None and not before["live"] and not _is_elsewhere(instance, before):
        return _NOT_CONTENT
    return {**before, "path": path} if path is not None else before


def _looked_up(model: type[Model], key: Any) -> Mapping[str, Any] | log.Was:
    """Return what a row is, as part of the entry's insert; nothing to look up is visible to all."""
    columns = _visibility_columns(model)
    return log.Was(model._base_manager.filter(pk=key), *columns) if columns else {}


def _is_elsewhere(instance: Any, before: Mapping[str, Any]) -> bool:
    return any(
        before[column] != getattr(instance, column)
        for column in ("path", "url_path")
        if column in before
    )


def _gone(instance: Any) -> dict[str, Any]:
    columns = _visibility_columns(type(instance))
    names = {"collection": "collection_id", "locale": "locale_id"}
    was = {column: getattr(instance, names.get(column, column)) for column in columns}
    return {"pk": instance.pk, "model": _specific(instance)._meta.label_lower, **was}


def _note_restrictions(gone: list[dict[str, Any]]) -> None:
    """Add to pages that are about to go the restrictions that go with them."""
    by_page = {one["pk"]: one for one in gone}
    for restriction in PageViewRestriction.objects.filter(page__in=by_page):
        _, page, was = _restricted(restriction)
        by_page[page].setdefault("restrictions", []).append(was)


def _visibility_columns(model: type[Model]) -> list[str]:
    columns = ["locale"] if issubclass(model, TranslatableMixin) else []
    if issubclass(model, page_model()):
        return ["live", "path", "url_path", *columns]
    if issubclass(model, DraftStateMixin):
        columns.append("live")
    names = {field.name: field.related_model for field in model._meta.concrete_fields}
    return columns + (["collection"] if names.get("collection") is Collection else [])


def _specific(instance: Any) -> type[Model]:
    """Return the model that a row is of: a page is often written as its base."""
    return getattr(instance, "specific_class", None) or type(instance)


def _used_by(model: type[Model], keys: list[Any]) -> list[list[str]]:
    """Return (label, key) of what refers to rows that are about to go, before the index forgets."""
    found = ReferenceIndex.objects.filter(
        to_content_type=_content_type(model), to_object_id__in=[str(key) for key in keys]
    ).values_list("content_type__app_label", "content_type__model", "object_id")
    return [[f"{app}.{name}", key] for app, name, key in found.distinct()]


def _content_type(model: type[Model]) -> Any:
    content_types = ReferenceIndex._meta.get_field("to_content_type").related_model
    return content_types.objects.get_for_model(model, for_concrete_model=False)


def _parent_changed(sender: type[Model], instance: Any, using: str) -> None:
    key = parental_key(sender)
    if key is None:
        return
    parent_id = getattr(instance, key.attname)
    parent = key.get_cached_value(instance, default=None)
    if parent_id is not None and (parent is None or _may_be_live(parent)):
        model = _specific(parent) if parent is not None else key.related_model
        _row_changed(model, parent_id, using)


def _row_changed(model: type[Model], key: Any, using: str) -> None:
    """What belongs to a row changed, the row itself did not: it is what it was."""
    log.append(Kind.SAVE, model, key, was=_looked_up(model, key), using=using)


def _restricted(restriction: Any) -> tuple[type[Model], int, dict[str, Any]]:
    """Return what ``restriction`` is on, and what it was in the database until now."""
    model = type(restriction)
    kind = model.objects.filter(pk=restriction.pk).values_list("restriction_type", flat=True)
    through = model.groups.through.objects.filter(
        **{f"{model._meta.model_name}_id": restriction.pk}
    )
    was = {
        "pk": restriction.pk,
        "type": kind.first() or model.NONE,
        "groups": list(through.values_list("group_id", flat=True)) if restriction.pk else [],
    }
    if model is PageViewRestriction:
        return page_model(), restriction.page_id, was
    return Collection, restriction.collection_id, was


def _model_of(origin: Any) -> type[Any]:
    """Return the model that a deletion started from; ``origin`` is a queryset or an instance."""
    return origin.model if isinstance(origin, QuerySet) else type(origin)


def _may_be_live(instance: Any) -> bool:
    return bool(getattr(instance, "live", True))


def _is_bookkeeping(update_fields: Iterable[str] | None) -> bool:
    return update_fields is not None and BOOKKEEPING.issuperset(update_fields)
