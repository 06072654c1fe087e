"""
Hear who somebody is change, and what they may do, and state it as an entry; nothing else.

An entry says whom it concerns: a user, a group, an API token, a session; or everybody, and then
other things may be seen by the same people. What has become of their rights is looked up later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from importlib import import_module
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save
from django.utils import timezone

from wagtail_live import conf, log
from wagtail_live.events import Audience, Kind
from wagtail_live.models import AccessRule

#: What entries about sessions are labelled, whatever keeps the sessions.
SESSION = "sessions.session"
#: ...and those about API tokens.
TOKEN = "wagtailcore.apitoken"  # noqa: S105 - a label
#: What an entry about everybody names.
EVERYBODY = ("", "")
#: What entries about rules of access are labelled.
RULE = AccessRule._meta.label_lower
#: Columns that say when something was used last.
BOOKKEEPING = frozenset({"last_login", "last_used_at"})
#: Rows that give a group something; not every version of Wagtail has all of them.
GRANTS = ("GroupPagePermission", "GroupCollectionPermission", "GroupSitePermission")

_Receivers = Mapping[Any, Callable[..., None]]


def session_name(key: str) -> str:
    """Return how an entry names the session ``key``: who reads the log cannot take it over."""
    return sha256(key.encode()).hexdigest()


def rests_on(asker: Any, audience: Audience) -> frozenset[tuple[str, str]]:
    """
    Return what entries name, as (label, id), when the rights of ``asker`` may be others; nothing
    for the public. It is what ``identity`` found, and ``audience`` what a policy made of it.
    """
    found = {(Group._meta.label_lower, str(group)) for group in audience.groups}
    if audience.token is not None:
        found.add((TOKEN, str(audience.token)))
    if asker.session.session_key is not None:
        found.add((SESSION, session_name(asker.session.session_key)))
    if asker.user.is_authenticated:
        found.add((_base(type(asker.user))._meta.label_lower, str(asker.user.pk)))
    return frozenset({EVERYBODY, *found} if found else ())


def connect() -> None:
    """Connect the receivers; called once, when all apps are ready."""
    user: type[Model] = get_user_model()
    written: _Receivers = {pre_save: changing, post_save: changed, pre_delete: ending}
    for model in apps.get_models():
        if issubclass(model, user):  # a proxy's saves are its own
            _connect(model, written)
    for given in _installed("wagtailcore", *GRANTS, "APIToken"):
        _connect(given, written)
    _connect(Group, written)
    _connect(AccessRule, written)
    for of, name in ((user, "groups"), (user, "user_permissions"), (Group, "permissions")):
        _connect(_through(of, name), {m2m_changed: granted})
    _connect(_session_model(), {pre_delete: session_ending})
    user_logged_out.connect(signed_out, dispatch_uid="wagtail_live")


def _connect(sender: type[Model] | None, receivers: _Receivers) -> None:
    if sender is not None:
        for signal, receiver in receivers.items():
            name = f"wagtail_live.{receiver.__name__}"
            signal.connect(receiver, sender=sender, dispatch_uid=name)


def changing(instance: Any, using: str, update_fields: Iterable[str] | None, **kwargs: Any) -> None:
    """Somebody, or what they may do, is about to be written."""
    model, key = _concerned(instance)
    if key is not None and not (update_fields and BOOKKEEPING.issuperset(update_fields)):
        log.state(instance, Kind.RIGHTS, model, key, using=using)


def changed(instance: Any, **kwargs: Any) -> None:
    """It was written."""
    log.stated(instance)


def ending(instance: Any, using: str, **kwargs: Any) -> None:
    """Somebody, or what they may do, is about to be deleted."""
    model, key = _concerned(instance)
    log.append(Kind.RIGHTS, model, key, using=using)


def granted(
    instance: Any,
    action: str,
    reverse: bool,
    model: type[Model],
    pk_set: set[Any] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """Members of a group, or permissions of a user or a group, changed."""
    if action not in {"post_add", "post_remove", "post_clear"}:
        return
    if reverse and pk_set is not None:
        for key in pk_set:
            log.append(Kind.RIGHTS, _base(model), key, using=using)
    elif isinstance(instance, Group | get_user_model()):
        log.append(Kind.RIGHTS, _base(type(instance)), instance.pk, using=using)
    else:  # a permission was taken from all who had it
        log.append(Kind.RIGHTS, type(instance), using=using)


def session_ending(instance: Any, using: str, **kwargs: Any) -> None:
    """A session is about to be deleted: signed out, or ended by somebody else."""
    if instance.expire_date > timezone.now():
        log.append(Kind.RIGHTS, SESSION, session_name(instance.session_key), using=using)


def signed_out(request: Any, **kwargs: Any) -> None:
    """Somebody signs out: whatever keeps the session, it ends now."""
    session = getattr(request, "session", None)
    key = getattr(session, "session_key", None)
    if key:
        log.append(Kind.RIGHTS, SESSION, session_name(key))


def _concerned(instance: Any) -> tuple[type[Model], Any]:
    """Return whom a change of ``instance`` concerns, as model and key."""
    if isinstance(instance, AccessRule):
        return AccessRule, ""
    if type(instance).__name__ in GRANTS:
        return Group, instance.group_id
    return _base(type(instance)), None if instance._state.adding else instance.pk


def _base(model: type[Model]) -> type[Model]:
    user: type[Model] = get_user_model()
    return user if issubclass(model, user) else model


def _installed(app: str, *names: str) -> list[type[Model]]:
    models = apps.get_app_config(app).models
    return [models[name.lower()] for name in names if name.lower() in models]


def _through(model: type[Model], name: str) -> type[Model] | None:
    try:
        field: Any = model._meta.get_field(name)
    except FieldDoesNotExist:  # a user model of the project's own
        return None
    through: type[Model] = field.remote_field.through
    return through


def _session_model() -> type[Model] | None:
    """Return the model that keeps the sessions, if one does."""
    _, engine = conf.session_cookie()
    try:
        found: type[Model] = import_module(engine).SessionStore.get_model_class()
    except (ImportError, AttributeError, RuntimeError):  # a check says what is wrong
        return None
    return found
