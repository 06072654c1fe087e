"""The site whose objects are asked for: that of the settings."""

from tests.access.newsroom_world import ASKERS, QUERIES, Things, make

__all__ = ["ASKERS", "QUERIES", "Things", "make"]
