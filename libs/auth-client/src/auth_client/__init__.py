"""Token validation for services: validates access tokens with the user service."""

__version__ = "1.0.0"
