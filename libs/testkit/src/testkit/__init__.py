"""Shared code of all tests; part of no image and of no service's wheel."""

__version__ = "1.0.0"
