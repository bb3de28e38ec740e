# Fixtures live in a module of their own name, so that they can be type-checked; see also the services' tests.
from system_fixtures import services

__all__ = ["services"]
