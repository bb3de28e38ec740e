# Fixtures live in a module of their own name, so that they can be type-checked; see also the services' tests.
from launcher.fixtures import standin, terminal

__all__ = ["standin", "terminal"]
