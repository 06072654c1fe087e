import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

#: Before Wagtail 8 the page model cannot be another.
PAGE = getattr(settings, "WAGTAIL_PAGE_MODEL", "wagtailcore.Page")


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("wagtail_live", "0003_ticket"),
        ("wagtailcore", "0094_alter_page_locale"),
        migrations.swappable_dependency(PAGE),
    ]

    operations = [
        migrations.CreateModel(
            name="AccessRule",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "who",
                    models.CharField(
                        choices=[
                            ("everybody", "Everybody"),
                            ("group", "A group"),
                            ("token", "An API token"),
                        ],
                        default="everybody",
                        max_length=10,
                        verbose_name="who",
                    ),
                ),
                (
                    "token",
                    models.PositiveBigIntegerField(blank=True, null=True, verbose_name="API token"),
                ),
                ("collection", models.CharField(max_length=200, verbose_name="collection")),
                ("events", models.JSONField(blank=True, default=list, verbose_name="events")),
                ("field_names", models.JSONField(blank=True, default=list, verbose_name="fields")),
                ("drafts", models.BooleanField(default=False, verbose_name="drafts")),
                ("writing", models.BooleanField(default=False, verbose_name="writing")),
                ("active", models.BooleanField(default=True, verbose_name="active")),
                ("note", models.CharField(blank=True, max_length=255, verbose_name="note")),
                ("limits", models.JSONField(default=list, editable=False)),
                (
                    "group",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="auth.group",
                        verbose_name="group",
                    ),
                ),
                (
                    "locale",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="wagtailcore.locale",
                        verbose_name="language",
                    ),
                ),
                (
                    "page",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=PAGE,
                        verbose_name="page",
                    ),
                ),
                (
                    "site",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="wagtailcore.site",
                        verbose_name="site",
                    ),
                ),
            ],
            options={
                "verbose_name": "access rule",
                "verbose_name_plural": "access rules",
                "ordering": ("collection", "pk"),
            },
        ),
    ]
