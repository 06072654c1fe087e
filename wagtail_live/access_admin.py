"""The admin area of access rules, Settings > Live access: a form, and Wagtail's views around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from django import forms
from django.db.models import Model
from django.forms.widgets import Script
from django.utils.translation import gettext_lazy as _
from wagtail.admin.forms import WagtailAdminModelForm
from wagtail.admin.panels import FieldPanel, MultiFieldPanel, ObjectList
from wagtail.admin.ui.tables import BooleanColumn
from wagtail.admin.viewsets.model import ModelViewSet
from wagtail.models import TranslatableMixin

from wagtail_live import access_tokens, conf
from wagtail_live.content import kinds, page_model
from wagtail_live.models import AccessRule
from wagtail_live.rules import ALWAYS


class GroupedCheckboxes(forms.CheckboxSelectMultiple):
    """Checkboxes in a fieldset for each collection."""

    template_name = "wagtail_live/grouped_checkboxes.html"


class AccessRuleForm(WagtailAdminModelForm):  # type: ignore[misc]  # Wagtail has no types
    """A rule, checked against what the project's API has."""

    collection = forms.ChoiceField(label=_("Collection"))
    token = forms.TypedChoiceField(
        label=_("API token"), required=False, coerce=int, empty_value=None
    )
    events = forms.MultipleChoiceField(
        label=_("Events"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        choices=[
            ("create", _("New objects")),
            ("update", _("Changed objects")),
            ("delete", _("Objects that have left")),
        ],
    )
    #: Each as ``collection.field``: the same name may be a field of several collections.
    field_names = forms.MultipleChoiceField(
        label=_("Fields"), required=False, widget=GroupedCheckboxes
    )

    class Media:
        js = (Script("wagtail_live/access-rule.js", type="module"),)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = sorted(_collections())
        self.fields["collection"].choices = [(name, name) for name in names]
        self.fields["field_names"].choices = [
            (name, [(f"{name}.{field}", field) for field in _fields_of(name)]) for name in names
        ]
        self.fields["token"].choices = [
            ("", "---------"),
            *access_tokens.choices(self.instance.token),
        ]
        self.initial["field_names"] = [
            f"{self.instance.collection}.{name}" for name in self.instance.field_names
        ]

    def clean_field_names(self) -> list[str]:
        """Return the names alone; those of other collections are a mistake."""
        collection = self.cleaned_data.get("collection", "")
        chosen = [value.rsplit(".", 1) for value in self.cleaned_data["field_names"]]
        others = sorted({of for of, _ in chosen} - {collection})
        if others:
            raise forms.ValidationError(
                _("Untick the fields of %(others)s, or choose that collection."),
                params={"others": ", ".join(others)},
            )
        return [name for _, name in chosen]

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean()
        who = found.get("who")
        for kind in (AccessRule.Who.GROUP, AccessRule.Who.TOKEN):
            if who != kind:
                found[kind.value] = None
            elif not found.get(kind.value):
                self.add_error(kind.value, _("Choose one, or grant the rule to everybody."))
        model = _collections().get(found.get("collection", ""))
        if model is not None and found.get("page") and not issubclass(model, page_model()):
            self.add_error("page", _("What this collection shows is not in the tree of pages."))
        if model is not None and found.get("locale") and not issubclass(model, TranslatableMixin):
            self.add_error("locale", _("What this collection shows has no language."))
        return found


class AccessRuleViewSet(ModelViewSet):  # type: ignore[misc]  # Wagtail has no types
    """Wagtail's own views for access rules; who may use them is a matter of their permissions."""

    model = AccessRule
    name = "live_access"
    url_prefix = "live-access"
    icon = "key"
    menu_label = _("Live access")
    menu_order = 900
    add_to_settings_menu = True
    add_to_reference_index = False
    list_display: ClassVar[list[Any]] = [
        "__str__",
        "note",
        BooleanColumn("drafts", label=_("Drafts")),
        BooleanColumn("writing", label=_("Writing")),
        BooleanColumn("active", label=_("Active")),
    ]
    list_filter: ClassVar[list[str]] = ["who", "active"]
    search_fields: ClassVar[list[str]] = ["collection", "note"]
    search_backend_name = None
    edit_handler = ObjectList(
        [
            MultiFieldPanel(
                [
                    FieldPanel(
                        "who",
                        help_text=_(
                            "Rules for a token go before rules for groups, and those before rules "
                            "for everybody. A superuser who is signed in is not narrowed."
                        ),
                    ),
                    FieldPanel("group", help_text=_("If the rule is for a group.")),
                    FieldPanel("token", help_text=_("If the rule is for an API token.")),
                ],
                heading=_("Who"),
            ),
            MultiFieldPanel(
                [
                    FieldPanel(
                        "collection",
                        help_text=_(
                            "As soon as one active rule names a collection, only those may follow "
                            "it whom a rule fits."
                        ),
                    ),
                    FieldPanel("events", help_text=_("What is told. None ticked means all.")),
                    FieldPanel(
                        "field_names",
                        help_text=_(
                            "What is shown of each object, beside its id and type. None ticked "
                            "means all. Of several rules that fit, only the fields count that all "
                            "of them allow."
                        ),
                    ),
                ],
                heading=_("What"),
            ),
            MultiFieldPanel(
                [
                    FieldPanel(
                        "page",
                        help_text=_(
                            "Only this page and what is below it. None chosen means the whole tree."
                        ),
                    ),
                    FieldPanel(
                        "site",
                        help_text=_(
                            "Only pages of this site; of what is no page, only for those who ask "
                            "at its address."
                        ),
                    ),
                    FieldPanel("locale", help_text=_("Only what is in this language.")),
                ],
                heading=_("Where"),
            ),
            MultiFieldPanel(
                [
                    FieldPanel(
                        "drafts",
                        help_text=_(
                            "Also what is not published, for those whom Wagtail lets edit or "
                            "publish it."
                        ),
                    ),
                    FieldPanel(
                        "writing",
                        help_text=_("Also changes, for those whom Wagtail lets make them."),
                    ),
                ],
                heading=_("Beyond reading"),
            ),
            MultiFieldPanel(
                [
                    FieldPanel(
                        "active",
                        help_text=_("A rule that is not active is as if it were not there."),
                    ),
                    FieldPanel(
                        "note",
                        help_text=_("What the rule is for. Only administrators see it."),
                    ),
                ],
                heading=_("This rule"),
            ),
        ],
        base_form_class=AccessRuleForm,
    )


def _collections() -> dict[str, type[Model]]:
    """Return the model of each collection."""
    return {name: one.model for name, one in conf.api_router()._endpoints.items()}


def _fields_of(collection: str) -> Iterator[str]:
    """Return the names of what the API can show of a collection, of pages of every type."""
    endpoint = conf.api_router()._endpoints[collection]
    names = {name for kind in kinds(endpoint.model) for name in endpoint.get_available_fields(kind)}
    return iter(sorted(names - ALWAYS))
