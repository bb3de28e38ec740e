# Fixtures live in a module of their own name, so that each service's can be type-checked beside the other's.
from user_fixtures import app, client, database_url, empty_url, make_settings

__all__ = ["app", "client", "database_url", "empty_url", "make_settings"]
