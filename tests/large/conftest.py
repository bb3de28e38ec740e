# Fixtures live in a module of their own name, so that they can be type-checked; see also the services' tests.
from system_fixtures import services, services_on_both

__all__ = ["services", "services_on_both"]
