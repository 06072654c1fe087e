"""A small newsroom that shows wagtail_live at work."""
