"""Token validation for services: asks the user service what an access token is worth."""

__version__ = "0.1.0"
