"""
What an object refers to, as far as the audience may read it: the rest is as if it were deleted.

Wagtail's API checks the object that is asked for and nothing that it contains. Here the policy is
asked about every target too: of foreign keys and relations to many, of choosers in StreamFields, of
links and embeds in rich text. Objects are changed in memory and never saved. Blocking.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import ForeignKey, ForeignObjectRel, ManyToManyField, Model, QuerySet
from modelcluster.fields import ParentalKey, ParentalManyToManyField
from rest_framework.fields import Field
from rest_framework.relations import ManyRelatedField, RelatedField
from rest_framework.serializers import BaseSerializer
from taggit.managers import TaggableManager
from wagtail.blocks import (
    BaseBlock,
    ChooserBlock,
    ListBlock,
    RichTextBlock,
    StreamBlock,
    StructBlock,
)
from wagtail.contrib.typed_table_block.blocks import TypedTableBlock
from wagtail.fields import RichTextField, StreamField
from wagtail.images.blocks import ImageBlock
from wagtail.rich_text import get_rewriter

from wagtail_live.content import content_models

#: A page may show a snippet that shows an image: so many such steps are looked through.
DEPTH = 3
#: Who wrote the serializer fields of which it is known what they read.
KNOWN = ("wagtail.", "rest_framework.")

#: How serializer fields read what they are named after.
RELATED = (RelatedField.get_attribute, ManyRelatedField.get_attribute)

#: The names of the fields that are shown, and whether other code than Wagtail's reads the target.
Shown = Mapping[str, bool]
Put = Callable[[Any], None]
Visible = Callable[[QuerySet[Any]], QuerySet[Any]]
Readable = Callable[[type[Model], Hashable], bool]


@dataclass(frozen=True, slots=True)
class _Slot:
    """A place that refers to ``targets``; ``within``: those that other code may look through."""

    targets: tuple[tuple[type[Model], Hashable], ...]
    narrow: Callable[[Readable], None]
    within: Callable[[], Model | None] = lambda: None


class References:
    """
    Takes out of objects what refers to something that the audience may not read.

    Serves one evaluation: it remembers what it has asked the policy.
    """

    def __init__(self, visible: Visible) -> None:
        """``visible``: returns what may be read of a queryset; itself, when it hides nothing."""
        self._visible = visible
        self._known: dict[type[Model], dict[Hashable, bool]] = defaultdict(dict)
        self._leads: dict[tuple[type[Model], int], bool] = {}
        self._done: dict[int, Model] = {}

    def narrow(
        self, instances: Iterable[Model], shown: Shown | None = None, depth: int = DEPTH
    ) -> None:
        """Narrow ``instances`` in the fields that are ``shown``; None is all of them."""
        fresh = [one for one in instances if id(one) not in self._done]
        self._done.update((id(one), one) for one in fresh)
        slots = [
            slot
            for one in fresh
            for field, deep in _fields(type(one), shown)
            for slot in self._slots(one, field, deep, depth)
        ]
        self._ask(slots)
        for slot in slots:
            slot.narrow(self._readable)
        if depth > 1:
            within = [target for slot in slots if (target := slot.within()) is not None]
            if within:
                self.narrow(within, None, depth - 1)

    def _slots(self, instance: Any, field: Any, deep: bool, depth: int) -> Iterator[_Slot]:
        if isinstance(field, StreamField):
            value = getattr(instance, field.name)
            yield from _in_block(field.stream_block, value, partial(setattr, instance, field.name))
        elif isinstance(field, RichTextField):
            put = partial(setattr, instance, field.attname)
            yield from _in_text(getattr(instance, field.attname), put)
        elif isinstance(field, ForeignKey):
            deep = deep and self._leads_to_hidden(field.related_model, depth - 1)
            yield from _in_foreign_key(instance, field, deep)
        elif isinstance(getattr(field, "field", None), ParentalKey):
            children = getattr(instance, field.get_accessor_name()).get_object_list()
            self.narrow(children, None, depth)
        elif field.many_to_many or field.one_to_many:
            self._narrow_many(instance, field)

    def _narrow_many(self, instance: Any, field: Any) -> None:
        """Let the manager of a relation to many start from what may be read."""
        is_reverse = isinstance(field, ForeignObjectRel)
        manager = getattr(instance, field.get_accessor_name() if is_reverse else field.name)
        found = manager.get_queryset()
        readable = self._visible(found)
        if readable is found:
            return
        if isinstance(field, ParentalManyToManyField):
            related = instance.__dict__.setdefault("_cluster_related_objects", {})
            related[field.name] = list(readable)
        else:
            prefetched = instance.__dict__.setdefault("_prefetched_objects_cache", {})
            name = getattr(manager, "prefetch_cache_name", None) or field.cache_name
            prefetched[name] = readable

    def _leads_to_hidden(self, model: type[Model], depth: int) -> bool:
        """Return whether an object of ``model`` may refer to something hidden, within ``depth``."""
        if depth < 1:
            return False
        if (model, depth) not in self._leads:
            self._leads[model, depth] = any(
                not field.is_relation
                or self._hides(field.related_model)
                or self._leads_to_hidden(field.related_model, depth - 1)
                for field, _ in _fields(model, None)
            )
        return self._leads[model, depth]

    def _hides(self, model: type[Model]) -> bool:
        found = model._base_manager.all()
        return self._visible(found) is not found

    def _ask(self, slots: Iterable[_Slot]) -> None:
        """Ask the policy once for each model."""
        wanted: dict[type[Model], set[Hashable]] = defaultdict(set)
        for slot in slots:
            for model, key in slot.targets:
                if key not in self._known[model]:
                    wanted[model].add(key)
        for model, keys in wanted.items():
            found = model._base_manager.all()
            readable = self._visible(found)
            there = keys  # when the policy hides nothing of the model, there is nothing to ask
            if readable is not found:
                there = set(readable.filter(pk__in=keys).values_list("pk", flat=True))
            self._known[model].update((key, key in there) for key in keys)

    def _readable(self, model: type[Model], key: Hashable) -> bool:
        return self._known[model][key]


def shown(serializer: BaseSerializer[Any]) -> Shown | None:
    """Return which fields of the model ``serializer`` reads; None when that cannot be known."""
    model = serializer.Meta.model  # type: ignore[attr-defined]  # it is a model's
    found: dict[str, bool] = {}
    for field in serializer.fields.values():  # type: ignore[attr-defined]  # it is a model's
        name, *further = field.source.split(".")
        known = type(field).__module__.startswith(KNOWN)
        takes_all = type(field).get_attribute not in (Field.get_attribute, *RELATED)
        if _field(model, name) is not None and (known or not takes_all):
            found[name] = found.get(name, False) or bool(further) or not known
        elif not (takes_all and type(field).__module__.startswith("wagtail.")):
            return None
    return found


def _fields(model: type[Model], shown: Shown | None) -> Iterator[tuple[Any, bool]]:
    """Return the fields of ``model`` that may refer to something."""
    if shown is None:
        candidates = [(field, True) for field in model._meta.get_fields() if _is_own(field)]
    else:
        candidates = [(_field(model, name), deep) for name, deep in shown.items()]
    for field, deep in candidates:
        if isinstance(field, TaggableManager | ParentalKey):
            continue
        if isinstance(field, StreamField | RichTextField) or field.is_relation:
            yield field, deep


def _field(model: type[Model], name: str) -> Any:
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        relations = (one for one in model._meta.get_fields() if isinstance(one, ForeignObjectRel))
        return next((one for one in relations if one.get_accessor_name() == name), None)


def _is_own(field: Any) -> bool:
    """Return whether ``field`` is of the object's own content, or of its child objects."""
    if isinstance(field, ForeignObjectRel):
        return isinstance(field.field, ParentalKey)
    if isinstance(field, ForeignKey | ManyToManyField):
        return field.related_model in content_models() and not _is_parent_link(field)
    return isinstance(field, StreamField | RichTextField)


def _is_parent_link(field: Any) -> bool:
    return bool(getattr(field.remote_field, "parent_link", False))


def _in_foreign_key(instance: Any, field: ForeignKey[Any, Any], deep: bool) -> Iterator[_Slot]:
    if _is_parent_link(field) or getattr(instance, field.attname) is None:
        return
    model = field.related_model
    if field.target_field.primary_key:
        key = getattr(instance, field.attname)
    else:
        key = getattr(instance, field.name).pk

    def narrow(readable: Readable) -> None:
        if not readable(model, key):
            setattr(instance, field.name, None)

    def within() -> Model | None:
        return getattr(instance, field.name) if deep else None

    yield _Slot(((model, key),), narrow, within)


def _in_block(block: BaseBlock, value: Any, put: Put) -> Iterator[_Slot]:
    """Return the slots of ``value``, which ``put`` replaces where it is."""
    if value is None:
        return
    match block:
        case ChooserBlock() | ImageBlock():
            yield from _chosen(value, put)
        case RichTextBlock():
            yield from _in_text(value.source, lambda source: put(type(value)(source)))
        case StreamBlock():
            for child in value:
                yield from _in_block(child.block, child.value, partial(setattr, child, "value"))
        case ListBlock():
            for child in value.bound_blocks:
                yield from _in_block(child.block, child.value, partial(setattr, child, "value"))
        case StructBlock():
            for name, child in block.child_blocks.items():
                yield from _in_block(child, value.get(name), partial(value.__setitem__, name))
        case TypedTableBlock():
            for row in value.row_data:
                cells = row["values"]
                for index, column in enumerate(value.columns):
                    place = partial(cells.__setitem__, index)
                    yield from _in_block(column["block"], cells[index], place)


def _chosen(value: Any, put: Put) -> Iterator[_Slot]:
    if not isinstance(value, Model):
        return
    kept = [value]

    def narrow(readable: Readable) -> None:
        if not readable(type(value), value.pk):
            kept.clear()
            put(None)

    yield _Slot(((type(value), value.pk),), narrow, lambda: kept[0] if kept else None)


def _in_text(source: str | None, put: Put) -> Iterator[_Slot]:
    tags = list(_tags(source)) if source else []
    targets = {target for _, found in tags for target in found}
    if not targets:
        return

    def narrow(readable: Readable) -> None:
        text = source or ""
        for tag, found in tags:
            if not all(readable(*target) for target in found):
                text = text.replace(tag, "<a>" if tag.startswith("<a") else "")
        if text != source:
            put(text)

    yield _Slot(tuple(targets), narrow)


def _tags(source: str) -> Iterator[tuple[str, list[tuple[type[Model], Hashable]]]]:
    """Return the tags of rich text that refer to objects, with what they refer to."""
    for rewriter in get_rewriter().rewriters:
        for match in re.finditer(rewriter.get_opening_tag_regex(), source):
            found = [
                (model, _key(model, key))
                for model, key, *_ in rewriter.extract_references(match.group(0))
            ]
            if found:
                yield match.group(0), found


def _key(model: type[Model], text: str) -> Hashable:
    try:
        key: Hashable = model._meta.pk.to_python(text)
    except ValidationError:
        return None
    return key
