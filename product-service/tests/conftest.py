# Fixtures live in a module of their own name, so that each service's can be type-checked beside the other's.
from product_fixtures import app, client, database_url, empty_url, everything, make_settings, user_service
from seam_report import pytest_terminal_summary

__all__ = [
    "app",
    "client",
    "database_url",
    "empty_url",
    "everything",
    "make_settings",
    "pytest_terminal_summary",
    "user_service",
]
