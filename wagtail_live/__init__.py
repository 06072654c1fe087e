"""Every change that editors publish in Wagtail, live in every page that may show it."""

__version__ = "0.1.0"
