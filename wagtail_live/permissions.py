"""What Wagtail lets a user do, by its own permission policies. Unknown means no. Blocking."""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from wagtail.documents import get_document_model
from wagtail.images import get_image_model
from wagtail.permission_policies import ModelPermissionPolicy
from wagtail.permission_policies.collections import CollectionOwnershipPermissionPolicy
from wagtail.permission_policies.pages import PagePermissionPolicy

from wagtail_live.content import page_model

try:
    from wagtail.permissions import policy_registry
except ImportError:  # before Wagtail 8 there is no register of what each model has
    policy_registry = None

#: What a page's own tester is asked for an action.
_OF_A_PAGE: dict[str, tuple[str, ...]] = {
    "draft": ("can_edit", "can_publish"),
    "add": ("can_add_subpage",),
    "change": ("can_edit",),
    "publish": ("can_publish",),
    "unpublish": ("can_unpublish",),
    "delete": ("can_delete",),
    "lock": ("can_lock",),
    "unlock": ("can_unlock",),
}
#: The permissions of which one is needed for an action; any other is its own.
_OF_A_MODEL: dict[str, tuple[str, ...]] = {
    "draft": ("change", "publish"),
    "unpublish": ("publish",),
}


def has(user: Any, action: str, subject: Model | type[Model]) -> bool:
    """Return whether Wagtail lets ``user`` do ``action`` to ``subject``, an object or a model."""
    if not (user.is_authenticated and user.is_active):
        return False
    model = subject if isinstance(subject, type) else type(subject)
    if isinstance(subject, page_model()):
        tester = subject.permissions_for_user(user)
        return any(getattr(tester, question)() for question in _OF_A_PAGE.get(action, ()))
    policy = _policy(model)
    actions = _OF_A_MODEL.get(action, (action,))
    if isinstance(subject, type):
        return bool(policy.user_has_any_permission(user, actions))
    return bool(policy.user_has_any_permission_for_instance(user, actions, subject))


def _policy(model: type[Model]) -> Any:
    if policy_registry is not None:
        return policy_registry.get_by_type(model)
    if issubclass(model, page_model()):
        return PagePermissionPolicy(model)
    if model in {get_image_model(), get_document_model()}:
        return CollectionOwnershipPermissionPolicy(model, owner_field_name="uploaded_by_user")
    return ModelPermissionPolicy(model)
