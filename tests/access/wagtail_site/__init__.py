"""Wagtail's own test site, with wagtail_live on it."""
