# Fixtures live in a module of their own name, so that they can be type-checked; see also the services' tests.
from containers_support import clean_copy, composed, services

__all__ = ["clean_copy", "composed", "services"]
