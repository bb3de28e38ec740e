# Fixtures live in a module of their own name, so that they can be type-checked beside the other packages'.
from chassis_fixtures import empty_url, library, library_url, narrow_library

__all__ = ["empty_url", "library", "library_url", "narrow_library"]
